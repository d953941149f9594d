"""The audit trail: one transaction with what it records, found by any of its fields, and never changed."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest
import sqlalchemy as sa

from spawner.ledger import Ledger, tables
from spawner.ledger.database import transaction
from spawner.ledger.trail import CHUNK, HUB, TrailAction, TrailEntry, TrailFilter, record
from spawner.model import Cause, Lease, LeaseState, Refused, StaleLease
from testing.factories import GPU_0
from tests.unit.ledger_helpers import (
    ALICE,
    QUOTA,
    advance,
    begin_closing,
    close,
    enqueue,
    grant,
    read,
)


def write(ledger: Ledger, *entries: TrailEntry) -> None:
    with transaction(ledger._engine) as connection:
        for entry in entries:
            record(connection, entry)


def make_entry(at: float = 1.0, actor: str = "root", **values: object) -> TrailEntry:
    subject = str(values.pop("subject", GPU_0))
    return TrailEntry(at, actor, TrailAction.GPU_RETURNED, subject, **values)  # type: ignore[arg-type]


def told(ledger: Ledger, *search: TrailFilter) -> list[tuple[str, str]]:
    """Return (actor, action) of what was written, oldest first."""
    return [(w.entry.actor, w.entry.action.value) for w in reversed(ledger.trail(*search))]


def test_an_entry_comes_back_as_it_was_written(ledger: Ledger) -> None:
    entries = [
        make_entry(1.5, before={"a": [1, None]}, after={"ü": 2.5}, reason='weil "%_\\'),
        make_entry(2.5),
    ]
    write(ledger, *entries)
    assert [written.entry for written in ledger.trail()] == entries[::-1]


def test_what_is_rolled_back_was_not_done(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError), transaction(ledger._engine) as connection:
        record(connection, make_entry())
        raise ZeroDivisionError
    assert ledger.trail() == ()


@pytest.mark.parametrize("change", [sa.delete(tables.trail), sa.update(tables.trail).values(at=0)])
def test_the_database_itself_keeps_every_row(
    ledger: Ledger, change: sa.sql.expression.Executable
) -> None:
    write(ledger, make_entry())
    with (
        pytest.raises((sa.exc.DBAPIError, Exception), match="the audit trail only grows"),
        ledger._engine.begin() as connection,
    ):
        connection.execute(change)
    assert len(ledger.trail()) == 1


@pytest.mark.parametrize(
    ("search", "found"),
    [
        (TrailFilter(actor="bob"), [2]),
        (TrailFilter(action=TrailAction.GPU_RETURNED), [1, 2, 3]),
        (TrailFilter(action=TrailAction.LEASE_LOST), []),
        (TrailFilter(subject="user alice"), [3]),
        (TrailFilter(text="ALICE"), [3]),
        (TrailFilter(text="köln"), [1]),
        (TrailFilter(text="100%"), [2]),
        (TrailFilter(text="_"), []),
        (TrailFilter(since=2.0), [2, 3]),
        (TrailFilter(until=2.0), [1]),
        (TrailFilter(since=1.0, until=3.0, actor="root"), [1]),
    ],
)
def test_a_search_finds_what_agrees_with_all_of_it(
    ledger: Ledger, search: TrailFilter, found: list[int]
) -> None:
    write(
        ledger,
        make_entry(1.0, after={"from": "köln"}),
        make_entry(2.0, "bob", reason="100% broken"),
        make_entry(3.0, subject="user alice"),
    )
    assert [w.entry.at for w in reversed(ledger.trail(search))] == found


def test_pages_and_chunks_hold_every_entry_once(ledger: Ledger) -> None:
    write(ledger, *(make_entry(float(at)) for at in range(2 * CHUNK + 3)))
    streamed = [w.entry.at for chunk in ledger.trail_chunks() for w in chunk]
    assert streamed == [float(at) for at in reversed(range(2 * CHUNK + 3))]
    first = ledger.trail(limit=2)
    second = ledger.trail(limit=2, before_id=first[-1].id)
    assert [w.entry.at for w in (*first, *second)] == streamed[:4]


def test_what_is_written_while_another_user_reads_is_not_in_their_hands(ledger: Ledger) -> None:
    write(ledger, *(make_entry(float(at)) for at in range(CHUNK + 1)))
    times = count(1e6)
    read_times = []
    for chunk in ledger.trail_chunks():
        write(ledger, make_entry(next(times)))
        read_times += [w.entry.at for w in chunk]
    assert len(read_times) == CHUNK + 1


# --- leases and GPUs


def test_a_lease_is_reported_from_its_grant_to_its_end(ledger: Ledger) -> None:
    lease = grant(ledger, "alice")
    ledger.move(lease, LeaseState.RUNNING, now=7.0)
    running = read(ledger, lease)
    closing = ledger.move(
        running, LeaseState.CLOSING, now=8.0, cause=Cause.USER, by="root", reason="maintenance"
    )
    ledger.move(closing, LeaseState.CLOSED, now=9.0)
    assert told(ledger) == [(HUB, "lease.granted"), ("root", "lease.ended")]
    (ended, granted) = (written.entry for written in ledger.trail())
    assert granted.after is not None
    assert granted.after["gpu_uuids"] == [GPU_0]
    assert (ended.subject, ended.reason, ended.at) == (f"lease {lease.id}", "maintenance", 8.0)
    assert ended.before == tables.as_row(running)
    assert ended.after == tables.as_row(closing)


def test_an_end_without_a_reason_has_its_cause(ledger: Ledger) -> None:
    close(ledger, grant(ledger, "alice"))
    assert ledger.trail(limit=1)[0].entry.reason == "user"


def test_a_stale_write_reports_nothing(ledger: Ledger) -> None:
    lease = grant(ledger, "alice")
    ledger.move(lease, LeaseState.RUNNING, now=7.0)
    with pytest.raises(StaleLease):
        begin_closing(ledger, lease)
    assert told(ledger) == [(HUB, "lease.granted")]


def test_who_leaves_the_line_is_reported(ledger: Ledger) -> None:
    ledger.move(enqueue(ledger, "alice"), LeaseState.CLOSED, now=7.0, cause=Cause.USER, by="alice")
    assert told(ledger) == [("alice", "lease.ended")]


def test_a_server_without_gpus_is_reported_as_well(ledger: Ledger) -> None:
    enqueue(ledger, "alice", 0)
    assert told(ledger) == [(HUB, "lease.granted")]


def test_an_extension_is_reported_with_both_ends(ledger: Ledger) -> None:
    running = ledger.move(grant(ledger, "alice"), LeaseState.RUNNING, now=7.0)

    def longer(leases: Sequence[Lease], *_: object) -> Lease | Refused:
        return replace(leases[0], ends_at=1e6)

    ledger.extend(longer, ALICE, quota=QUOTA, now=8.0)
    entry = ledger.trail(limit=1)[0].entry
    assert (entry.actor, entry.action) == ("alice", TrailAction.LEASE_EXTENDED)
    assert entry.before is not None
    assert entry.after is not None
    assert (entry.before["ends_at"], entry.after["ends_at"]) == (running.ends_at, 1e6)


def test_a_gpu_s_failure_its_leases_and_its_return_are_reported(ledger: Ledger) -> None:
    lease = grant(ledger, "alice")
    ledger.quarantine(GPU_0, "failed (Xid 79)", xid_at=1.0, now=7.0)
    ledger.quarantine(GPU_0, "failed (Xid 79)", xid_at=1.0, now=8.0)
    ledger.release_gpu(GPU_0, by="root", xid_at=1.0, now=9.0)
    assert told(ledger)[1:] == [
        (HUB, "gpu.quarantined"),
        (HUB, "lease.lost"),
        ("root", "gpu.returned"),
    ]
    lost = ledger.trail(TrailFilter(subject=f"lease {lease.id}"))[0].entry
    assert lost.reason == "one of its GPUs failed (Xid 79)"
    assert advance(ledger, 10.0) == ([], {})
