"""The ledger on a real SQLite file: atomic claims, compare-and-set, nothing used twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from spawner.ledger import Ledger
from spawner.model import (
    TRANSITIONS,
    Cause,
    Granted,
    IllegalTransition,
    Lease,
    LeaseState,
    Quota,
    Reason,
    Refused,
    StaleLease,
)
from spawner.policy.allocate import allocate
from tests.unit.made import GPU_0, GPU_1, make_gpu, make_lease, make_request

GPUS = (make_gpu(0), make_gpu(1))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger.open(url, first_uid=20000)
    yield opened
    opened.close()


def claim(ledger: Ledger, user: str, gpus: int = 1) -> Granted | Refused:
    request = make_request(user, gpus)
    return ledger.claim(
        request,
        lambda leases: allocate(request, gpus=GPUS, leases=leases, quota=Quota(), now=5.0),
        now=5.0,
    )


def granted(answer: Granted | Refused) -> Lease:
    assert isinstance(answer, Granted)
    return answer.lease


def close(ledger: Ledger, lease: Lease) -> Lease:
    closing = ledger.move(lease, LeaseState.CLOSING, now=9.0, cause=Cause.USER)
    return ledger.move(closing, LeaseState.CLOSED, now=9.5)


def test_a_claim_holds_until_it_is_closed(ledger: Ledger) -> None:
    first, second = granted(claim(ledger, "alice")), granted(claim(ledger, "bob"))
    assert (first.gpu_uuids, second.gpu_uuids) == ((GPU_0,), (GPU_1,))
    third = claim(ledger, "carol")
    assert isinstance(third, Refused)
    assert third.reason is Reason.NO_FREE_GPU

    closing = ledger.move(first, LeaseState.CLOSING, now=9.0, cause=Cause.USER)
    assert isinstance(claim(ledger, "carol"), Refused), "closing is not free"
    closed = ledger.move(closing, LeaseState.CLOSED, now=9.5)
    assert (closed.ended_at, closed.cause) == (9.0, Cause.USER)
    assert granted(claim(ledger, "carol")).gpu_uuids == (GPU_0,)


def test_what_was_written_is_read_by_the_next_hub(ledger: Ledger, url: str) -> None:
    lease = granted(claim(ledger, "alice", 2))
    other = Ledger.open(url, first_uid=20000)
    assert other.lease(lease.id) == lease
    assert other.live_leases() == (lease,)
    other.close()


def test_two_hundred_claims_at_once_give_two_gpus_once(ledger: Ledger, url: str) -> None:
    other = Ledger.open(url, first_uid=20000)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: claim((ledger, other)[i % 2], f"user{i}"), range(200)))
    other.close()
    held = [
        uuid for answer in answers if isinstance(answer, Granted) for uuid in answer.lease.gpu_uuids
    ]
    assert sorted(held) == [GPU_0, GPU_1]


def test_the_database_itself_refuses_a_double_booking_until_it_is_closed(ledger: Ledger) -> None:
    lease = granted(claim(ledger, "alice"))
    other = make_lease(id="f" * 16, user="bob", gpu_uuids=(GPU_0,))
    assert ledger.adopt(other) is False
    closing = ledger.move(lease, LeaseState.CLOSING, now=9.0, cause=Cause.USER)
    assert ledger.adopt(other) is False
    assert ledger.lease(other.id) is None
    ledger.move(closing, LeaseState.CLOSED, now=9.5)
    assert ledger.adopt(other) is True


def test_a_forgotten_lease_is_adopted_whole(ledger: Ledger) -> None:
    lease = make_lease(state=LeaseState.RUNNING, gpu_uuids=(GPU_1,))
    assert ledger.adopt(lease) is True
    assert ledger.live_leases() == (lease,)


def test_a_stale_lease_changes_nothing(ledger: Ledger) -> None:
    lease = granted(claim(ledger, "alice"))
    running = ledger.move(lease, LeaseState.RUNNING, now=6.0)
    with pytest.raises(StaleLease):
        ledger.move(lease, LeaseState.CLOSING, now=7.0, cause=Cause.USER)
    assert ledger.lease(lease.id) == running


@pytest.mark.parametrize("start", LeaseState)
@pytest.mark.parametrize("to", LeaseState)
def test_only_the_moves_of_the_table_are_made(
    ledger: Ledger, start: LeaseState, to: LeaseState
) -> None:
    lease = make_lease(state=start, gpu_uuids=(GPU_0,))
    ledger.adopt(lease)
    if to in TRANSITIONS[start]:
        assert ledger.move(lease, to, now=7.0).state is to
    else:
        with pytest.raises(IllegalTransition):
            ledger.move(lease, to, now=7.0)
        assert ledger.lease(lease.id) == lease


def test_lease_ids_and_uids_are_never_given_twice(ledger: Ledger) -> None:
    ids = set()
    for _ in range(20):
        lease = granted(claim(ledger, "alice", 0))
        ids.add(lease.id)
        close(ledger, lease)
    assert len(ids) == 20
    assert ledger.account_of("alice") == ledger.account_of("alice")
    assert ledger.account_of("alice").uid != ledger.account_of("bob").uid


def test_a_prepared_home_is_remembered(ledger: Ledger) -> None:
    account = ledger.account_of("alice")
    assert account.is_home_prepared is False
    ledger.mark_home_prepared(account.uid)
    assert ledger.account(account.uid) == replace(account, is_home_prepared=True)
    assert ledger.account(19999) is None
