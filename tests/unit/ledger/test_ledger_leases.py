"""Leases and what they were used, on both databases: compare-and-set, and nothing used twice."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from math import isclose
from typing import Any

import pytest
import sqlalchemy as sa

from spawner.ledger import Ledger
from spawner.model import (
    TRANSITIONS,
    Cause,
    Heartbeat,
    IllegalTransition,
    Lease,
    LeaseState,
    Quota,
    Refused,
    StaleLease,
)
from spawner.policy.quota_check import extend_lease
from testing.factories import GPU_0, GPU_1, make_lease
from tests.unit.ledger_helpers import (
    ALICE,
    HOUR,
    QUOTA,
    advance,
    begin_closing,
    close,
    enqueue,
    give_up,
    grant,
    read,
)


def test_what_was_written_is_read_by_the_next_hub(ledger: Ledger, ledger_url: str) -> None:
    lease = grant(ledger, "alice", 2)
    other = Ledger.open(ledger_url, first_uid=20000)
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
    same, other = enqueue(ledger, "alice"), enqueue(ledger, "bob")
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
    lease = enqueue(ledger, "alice")
    closed = ledger.move(lease, LeaseState.CLOSED, now=7.0, cause=Cause.USER)
    assert (closed.ended_at, closed.cause) == (7.0, Cause.USER)


def test_an_extension_is_one_transaction(ledger: Ledger) -> None:
    granted = grant(ledger, "alice")
    running = ledger.move(granted, LeaseState.RUNNING, now=7.0)

    def extend(leases: Sequence[Lease], quota: Quota, held: float) -> Lease | Refused:
        return extend_lease(("alice", ""), 0.001, leases=leases, quota=quota, now=HOUR, held=held)

    extended = ledger.extend(extend, ALICE, quota=QUOTA, now=HOUR)
    assert isinstance(extended, Lease)
    assert extended.ends_at == (running.ends_at or 0.0) + 3.6
    assert read(ledger, running) == extended
    enqueue(ledger, "bob", 2)
    refused = ledger.extend(extend, ALICE, quota=QUOTA, now=HOUR)
    assert isinstance(refused, Refused)
    assert read(ledger, running) == extended


# --- use


def test_use_is_counted_while_a_lease_lives_and_when_it_is_closed(ledger: Ledger) -> None:
    lease = grant(ledger, "alice", 2, now=0.0)
    enqueue(ledger, "bob", now=1.0)
    a_half_life = HOUR
    total = 2 / 0.6931471805599453  # hours of two GPUs held without end, at a half-life of an hour
    assert isclose(ledger.snapshot(now=a_half_life).use[lease.uid], total / 2)
    closing = begin_closing(ledger, lease, now=a_half_life)
    ledger.move(closing, LeaseState.CLOSED, now=2 * a_half_life)
    later = ledger.snapshot(now=2 * a_half_life).use[lease.uid]
    assert isclose(later, total / 4), "until it ended, not until it was closed"
    give_up(ledger, "bob")
    second = grant(ledger, "alice", 2, now=2 * a_half_life)
    close(ledger, second, now=3 * a_half_life)
    assert isclose(
        ledger.snapshot(now=3 * a_half_life).use[lease.uid], total / 8 + total / 2, rel_tol=1e-3
    )
    assert ledger.snapshot(now=0.0).use.keys() == {lease.uid}


def test_who_used_less_is_next(ledger: Ledger) -> None:
    close(ledger, grant(ledger, "alice", now=0.0), now=HOUR)
    holder = grant(ledger, "x", 2, now=HOUR)
    first, second = enqueue(ledger, "alice", now=HOUR + 1), enqueue(ledger, "bob", now=HOUR + 2)
    close(ledger, holder, now=HOUR + 2)
    ledger_order = advance(ledger, now=HOUR + 3)[1]
    assert list(ledger_order) == [second.id, first.id]


# --- the rest


def test_lease_ids_and_uids_are_never_given_twice(ledger: Ledger) -> None:
    ids = set()
    for _ in range(20):
        lease = enqueue(ledger, "alice", 0)
        ids.add(lease.id)
        close(ledger, lease)
    assert len(ids) == 20
    assert ledger.get_or_create_account("alice", "alice") == ledger.get_or_create_account(
        "alice", "alice"
    )
    assert (
        ledger.get_or_create_account("alice", "alice").uid
        != ledger.get_or_create_account("bob", "bob").uid
    )


def test_a_prepared_home_is_remembered(ledger: Ledger) -> None:
    account = ledger.get_or_create_account("alice", "alice")
    assert account.is_home_prepared is False
    ledger.mark_home_prepared(account.uid)
    assert ledger.account(account.uid) == replace(account, is_home_prepared=True)
    assert ledger.account(19999) is None


@pytest.mark.parametrize("find", [Ledger.last_lease, Ledger.last_ended])
def test_the_last_lease_of_a_server_is_found_without_reading_all_leases(
    sqlite_url: str, find: Callable[[Ledger, str, str], Lease | None]
) -> None:
    ledger = Ledger.open(sqlite_url, first_uid=20000)
    asked: list[tuple[str, Any]] = []
    sa.event.listen(
        ledger._engine, "before_cursor_execute", lambda *call: asked.append((call[2], call[3]))
    )
    find(ledger, "alice", "")
    ledger.close()
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as database:
        statement, values = asked[-1]
        plan = str(database.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall())
    assert "SEARCH leases" in plan
    assert "SCAN" not in plan


def test_the_last_heartbeat_is_kept(ledger: Ledger) -> None:
    assert ledger.heartbeat() is None
    for at in (1.0, 2.0):
        ledger.record_heartbeat(Heartbeat("boot", -5.0, at))
    assert ledger.heartbeat() == Heartbeat("boot", -5.0, 2.0)
