"""The ledger on a real SQLite file: atomic grants, compare-and-set, nothing used twice."""

import itertools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import isclose
from pathlib import Path

import pytest

from spawner.ledger import Ledger
from spawner.model import (
    TRANSITIONS,
    Cause,
    Heartbeat,
    IllegalTransition,
    Lease,
    LeaseState,
    Options,
    Quota,
    Reason,
    Refused,
    Request,
    StaleLease,
    Unknown,
)
from spawner.policy.admission import admit
from spawner.policy.line import PRESENT_SECONDS, plan_line
from spawner.policy.quota import extend_lease
from tests.unit.made import GPU_0, GPU_1, make_gpu, make_lease, make_request

GPUS = (make_gpu(0), make_gpu(1))
HOUR = 3600.0
QUOTA = Quota(max_lease_hours=8, priority=3)
_moments = (i / 1e6 for i in itertools.count())


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger.open(url, first_uid=20000, half_life_hours=1)
    yield opened
    opened.close()


def ask(ledger: Ledger, request: Request, now: float = 5.0) -> Lease | Refused:
    def check(leases: Sequence[Lease]) -> Refused | None:
        return admit(request, gpus=GPUS, leases=leases, quota=QUOTA)

    return ledger.admit(request, check, quota=QUOTA, now=now)


def stand(ledger: Ledger, user: str, gpus: int = 1, now: float | None = None) -> Lease:
    now = 5.0 + next(_moments) if now is None else now
    answer = ask(ledger, make_request(user, gpus), now)
    assert isinstance(answer, Lease), answer
    return answer


def advance(ledger: Ledger, now: float = 6.0) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Return who still waits, in order, and what each of the others was granted."""
    still_waiting: list[str] = []

    def plan(
        waiting: Sequence[Lease],
        holding: Sequence[Lease],
        use: Mapping[str, float],
        quarantined: Set[str],
    ) -> Mapping[str, tuple[str, ...]]:
        healthy = [gpu for gpu in GPUS if gpu.uuid not in quarantined]
        planned = plan_line(waiting, leases=holding, gpus=healthy, use=use, now=now)
        still_waiting.extend(planned.queues[None])
        return planned.grants

    granted = ledger.advance(plan, now=now)
    return still_waiting, {g.id: g.gpu_uuids for g in granted}


def grant(ledger: Ledger, user: str, gpus: int = 1, now: float = 6.0) -> Lease:
    lease = stand(ledger, user, gpus, now)
    assert lease.id in advance(ledger, now)[1]
    return read(ledger, lease)


def read(ledger: Ledger, lease: Lease) -> Lease:
    found = ledger.lease(lease.id)
    assert found is not None
    return found


def give_up(ledger: Ledger, user: str) -> None:
    (lease,) = (lease for lease in ledger.live_leases() if lease.user == user)
    ledger.move(lease, LeaseState.CLOSED, now=9.0, cause=Cause.USER)


def begin_closing(ledger: Ledger, lease: Lease, now: float = 9.0) -> Lease:
    return ledger.move(lease, LeaseState.CLOSING, now=now, cause=Cause.USER)


def close(ledger: Ledger, lease: Lease, now: float = 9.0) -> Lease:
    return ledger.move(begin_closing(ledger, lease, now), LeaseState.CLOSED, now=now + 0.5)


# --- the line


def test_a_place_in_line_becomes_a_grant_that_holds_until_it_is_closed(ledger: Ledger) -> None:
    first, second, third = (stand(ledger, user) for user in ("alice", "bob", "carol"))
    assert (first.state, first.priority, first.hours) == (LeaseState.WAITING, 3, 8)
    assert advance(ledger) == ([third.id], {first.id: (GPU_0,), second.id: (GPU_1,)})
    granted = read(ledger, first)
    assert (granted.state, granted.granted_at, granted.ends_at) == (
        LeaseState.GRANTED,
        6.0,
        6.0 + 8 * HOUR,
    )
    assert granted.is_claimed, "alice has only just asked"

    closing = begin_closing(ledger, granted)
    assert advance(ledger) == ([third.id], {}), "closing is not free"
    closed = ledger.move(closing, LeaseState.CLOSED, now=9.5)
    assert (closed.ended_at, closed.cause) == (9.0, Cause.USER)
    assert advance(ledger) == ([], {third.id: (GPU_0,)})


def test_a_server_without_gpus_never_waits(ledger: Ledger) -> None:
    grant(ledger, "alice", 2)
    lease = stand(ledger, "bob", 0)
    assert (lease.state, lease.ends_at, lease.is_claimed) == (LeaseState.GRANTED, None, True)


def test_who_comes_late_to_their_turn_has_not_claimed_it(ledger: Ledger) -> None:
    lease = stand(ledger, "alice", now=5.0)
    advance(ledger, now=5.0 + PRESENT_SECONDS + 1)
    granted = read(ledger, lease)
    assert granted.is_claimed is False
    running = ledger.move(granted, LeaseState.RUNNING, now=70.0)
    assert ledger.mark_claimed(running).is_claimed is True
    with pytest.raises(StaleLease):
        ledger.mark_claimed(running)


def test_a_spawn_that_is_issued_anew_keeps_its_place(ledger: Ledger) -> None:
    grant(ledger, "x", 2)
    first, second = stand(ledger, "alice"), stand(ledger, "bob")
    assert stand(ledger, "alice", now=50.0) == first
    assert advance(ledger)[0] == [first.id, second.id]


def test_another_wish_goes_to_the_end_and_an_impossible_one_changes_nothing(
    ledger: Ledger,
) -> None:
    grant(ledger, "x", 2)
    first, second = stand(ledger, "alice"), stand(ledger, "bob", now=6.0)
    refused = ask(ledger, make_request("alice", 3), now=50.0)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.NOT_ENOUGH_GPUS
    assert read(ledger, first) == first

    again = stand(ledger, "alice", 2, now=51.0)
    assert read(ledger, first).state is LeaseState.CLOSED
    assert read(ledger, first).cause is Cause.USER
    assert advance(ledger)[0] == [second.id, again.id]


def test_a_grant_that_nobody_came_for_is_found_again(ledger: Ledger) -> None:
    lease = grant(ledger, "alice")
    assert stand(ledger, "alice") == lease
    running = ledger.move(lease, LeaseState.RUNNING, now=7.0)
    refused = ask(ledger, make_request("alice"))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.ALREADY_HELD
    assert read(ledger, lease) == running


def test_the_hours_are_those_asked_for(ledger: Ledger) -> None:
    lease = ask(ledger, Request("alice", "", Options("v2.7", 1, hours=0.5), "alice"))
    assert isinstance(lease, Lease)
    advance(ledger, now=6.0)
    assert read(ledger, lease).ends_at == 6.0 + 0.5 * HOUR


def test_the_order_survives_the_next_hub(ledger: Ledger, url: str) -> None:
    grant(ledger, "x", 2)
    line = [stand(ledger, user, now=now).id for now, user in enumerate("dacb", start=10)]
    other = Ledger.open(url, first_uid=20000)
    assert advance(other)[0] == line
    other.close()


def test_two_hundred_requests_from_two_hubs_get_two_gpus_once(ledger: Ledger, url: str) -> None:
    other = Ledger.open(url, first_uid=20000)

    def ask_and_advance(i: int) -> list[tuple[str, ...]]:
        hub = (ledger, other)[i % 2]
        stand(hub, f"user{i}")
        return list(advance(hub)[1].values())

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask_and_advance, range(200)))
    other.close()
    assert sorted(held for answer in answers for held in answer) == [(GPU_0,), (GPU_1,)]


def test_a_plan_that_gives_out_a_held_gpu_changes_nothing(ledger: Ledger) -> None:
    held = grant(ledger, "alice")
    first, second = stand(ledger, "bob"), stand(ledger, "carol")
    wrong = {first.id: (GPU_1,), second.id: held.gpu_uuids}
    with pytest.raises(Exception, match="UNIQUE"):
        ledger.advance(lambda *_: wrong, now=6.0)
    assert read(ledger, first) == first
    assert read(ledger, second) == second


def test_a_start_that_died_goes_back_to_its_old_place_under_a_new_id(ledger: Ledger) -> None:
    granted = grant(ledger, "alice", 2, now=5.0)
    behind = stand(ledger, "bob", now=6.0)
    with pytest.raises(IllegalTransition):
        ledger.requeue(granted)
    closing = ledger.move(granted, LeaseState.CLOSING, now=7.0, cause=Cause.INTERRUPTED)
    again = ledger.requeue(closing)
    assert again.id != granted.id
    assert again == stand(ledger, "alice", 2)
    assert (again.requested_at, again.granted_at, again.gpu_uuids) == (5.0, None, ())
    assert read(ledger, granted).state is LeaseState.CLOSED
    assert advance(ledger) == ([behind.id], {again.id: (GPU_0, GPU_1)})
    assert ledger.last_lease("alice", "") == read(ledger, again)


# --- leases


def test_what_was_written_is_read_by_the_next_hub(ledger: Ledger, url: str) -> None:
    lease = grant(ledger, "alice", 2)
    other = Ledger.open(url, first_uid=20000)
    assert other.lease(lease.id) == lease
    assert other.live_leases() == (lease,)
    other.close()


def test_the_database_itself_refuses_a_double_booking_until_it_is_closed(ledger: Ledger) -> None:
    lease = grant(ledger, "alice")
    other = make_lease(id="f" * 16, user="bob", gpu_uuids=(GPU_0,))
    assert ledger.adopt(other) is False
    closing = begin_closing(ledger, lease)
    assert ledger.adopt(other) is False
    assert ledger.lease(other.id) is None
    ledger.move(closing, LeaseState.CLOSED, now=9.5)
    assert ledger.adopt(other) is True


def test_a_forgotten_lease_is_adopted_whole(ledger: Ledger) -> None:
    lease = make_lease(state=LeaseState.RUNNING, gpu_uuids=(GPU_1,))
    assert ledger.adopt(lease) is True
    assert ledger.live_leases() == (lease,)


def test_what_an_old_backup_calls_waiting_is_adopted_too(ledger: Ledger) -> None:
    same, other = stand(ledger, "alice"), stand(ledger, "bob")
    running = make_lease(id=same.id, state=LeaseState.RUNNING, gpu_uuids=(GPU_0,))
    later = make_lease(
        id="f" * 16, user="bob", state=LeaseState.RUNNING, gpu_uuids=(GPU_1,), requested_at=99.0
    )
    assert ledger.adopt(running) is True
    assert ledger.adopt(later) is True
    assert read(ledger, same) == replace(running, epoch=2)
    assert read(ledger, other).cause is Cause.LOST
    assert set(ledger.live_leases()) == {replace(running, epoch=2), later}


def test_a_stale_lease_changes_nothing(ledger: Ledger) -> None:
    lease = grant(ledger, "alice")
    running = ledger.move(lease, LeaseState.RUNNING, now=6.0)
    with pytest.raises(StaleLease):
        begin_closing(ledger, lease)
    assert ledger.lease(lease.id) == running


@pytest.mark.parametrize("start", LeaseState)
@pytest.mark.parametrize("to", LeaseState)
def test_only_the_moves_of_the_table_are_made(
    ledger: Ledger, start: LeaseState, to: LeaseState
) -> None:
    lease = make_lease(state=start, gpu_uuids=(GPU_0,))
    ledger.adopt(lease)
    if to in TRANSITIONS[start] and to is not LeaseState.GRANTED:  # only its turn grants it
        assert ledger.move(lease, to, now=7.0).state is to
    else:
        with pytest.raises(IllegalTransition):
            ledger.move(lease, to, now=7.0)
        assert ledger.lease(lease.id) == lease


def test_who_leaves_the_line_has_a_cause(ledger: Ledger) -> None:
    lease = stand(ledger, "alice")
    closed = ledger.move(lease, LeaseState.CLOSED, now=7.0, cause=Cause.USER)
    assert (closed.ended_at, closed.cause) == (7.0, Cause.USER)


def test_an_extension_is_one_transaction(ledger: Ledger) -> None:
    granted = grant(ledger, "alice")
    running = ledger.move(granted, LeaseState.RUNNING, now=7.0)

    def extend(leases: Sequence[Lease]) -> Lease | Refused:
        return extend_lease(("alice", ""), 0.001, leases=leases, quota=QUOTA, now=HOUR)

    extended = ledger.extend(extend)
    assert isinstance(extended, Lease)
    assert extended.ends_at == (running.ends_at or 0.0) + 3.6
    assert read(ledger, running) == extended
    stand(ledger, "bob", 2)
    refused = ledger.extend(extend)
    assert isinstance(refused, Refused)
    assert read(ledger, running) == extended


# --- use


def test_use_is_counted_while_a_lease_lives_and_when_it_is_closed(ledger: Ledger) -> None:
    lease = grant(ledger, "alice", 2, now=0.0)
    stand(ledger, "bob", now=1.0)
    a_half_life = HOUR
    total = 2 / 0.6931471805599453  # hours of two GPUs held for ever, at a half-life of an hour
    assert isclose(ledger.use(now=a_half_life)["alice"], total / 2)
    closing = begin_closing(ledger, lease, now=a_half_life)
    ledger.move(closing, LeaseState.CLOSED, now=2 * a_half_life)
    later = ledger.use(now=2 * a_half_life)["alice"]
    assert isclose(later, total / 4), "until it ended, not until it was closed"
    give_up(ledger, "bob")
    second = grant(ledger, "alice", 2, now=2 * a_half_life)
    close(ledger, second, now=3 * a_half_life)
    assert isclose(ledger.use(now=3 * a_half_life)["alice"], total / 8 + total / 2, rel_tol=1e-3)
    assert ledger.use(now=0.0).keys() == {"alice"}


def test_who_used_less_is_next(ledger: Ledger) -> None:
    close(ledger, grant(ledger, "alice", now=0.0), now=HOUR)
    holder = grant(ledger, "x", 2, now=HOUR)
    first, second = stand(ledger, "alice", now=HOUR + 1), stand(ledger, "bob", now=HOUR + 2)
    close(ledger, holder, now=HOUR + 2)
    ledger_order = advance(ledger, now=HOUR + 3)[1]
    assert list(ledger_order) == [second.id, first.id]


# --- the rest


def test_lease_ids_and_uids_are_never_given_twice(ledger: Ledger) -> None:
    ids = set()
    for _ in range(20):
        lease = stand(ledger, "alice", 0)
        ids.add(lease.id)
        close(ledger, lease)
    assert len(ids) == 20
    assert ledger.account_of("alice", "alice") == ledger.account_of("alice", "alice")
    assert ledger.account_of("alice", "alice").uid != ledger.account_of("bob", "bob").uid


def test_a_prepared_home_is_remembered(ledger: Ledger) -> None:
    account = ledger.account_of("alice", "alice")
    assert account.is_home_prepared is False
    ledger.mark_home_prepared(account.uid)
    assert ledger.account(account.uid) == replace(account, is_home_prepared=True)
    assert ledger.account(19999) is None


def test_the_last_heartbeat_is_kept(ledger: Ledger) -> None:
    assert ledger.heartbeat() is None
    for at in (1.0, 2.0):
        ledger.beat(Heartbeat("boot", -5.0, at))
    assert ledger.heartbeat() == Heartbeat("boot", -5.0, 2.0)


def test_a_locked_database_is_unknown_not_an_answer(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.database.BUSY_TIMEOUT_SECONDS", 0.05)
    ledger = Ledger.open(url, first_uid=20000)
    lock = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unknown, match="locked"):
        ledger.live_leases()
    lock.execute("ROLLBACK")
    assert ledger.live_leases() == ()
    lock.close()
    ledger.close()
