"""Rows: reads and writes single leases, quarantines and drains inside a ledger transaction.

Every update of a lease is compare-and-set on its id and epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from spawner.ledger import tables, trail
from spawner.ledger.trail import HUB, TrailAction, TrailEntry
from spawner.model import Cause, Drain, Lease, LeaseState, Quarantine, StaleLease
from spawner.policy.extras import redact
from spawner.policy.fair_share import accrue, decay
from spawner.policy.queue import is_present


def is_unchanged(lease: Lease) -> sa.ColumnElement[bool]:
    """Return the WHERE clause for optimistic locking: lease id and epoch."""
    return sa.and_(tables.leases.c.id == lease.id, tables.leases.c.epoch == lease.epoch)


def write(connection: sa.Connection, lease: Lease, **changes: Any) -> Lease:  # noqa: ANN401
    """Update ``lease`` and return it with its new epoch; raises StaleLease if its row has another epoch."""
    changed = replace(lease, epoch=lease.epoch + 1, **changes)
    values = tables.as_row(changed)
    found = connection.execute(sa.update(tables.leases).where(is_unchanged(lease)).values(values))
    if found.rowcount != 1:
        raise StaleLease(f"Lease {lease.id} has changed since epoch {lease.epoch}.")
    return changed


def grant(connection: sa.Connection, lease: Lease, gpu_uuids: Sequence[str], now: float) -> Lease:
    """Grant a waiting lease its GPUs for its hours."""
    granted = write(
        connection,
        lease,
        state=LeaseState.GRANTED,
        gpu_uuids=tuple(gpu_uuids),
        granted_at=now,
        ends_at=now + lease.hours * 3600.0,
        is_claimed=is_present(lease, now),
    )
    claim(connection, granted)
    record_lease(connection, TrailAction.LEASE_GRANTED, lease, granted, at=now)
    return granted


def leave_queue(
    connection: sa.Connection,
    lease: Lease,
    cause: Cause | None,
    now: float,
    *,
    by: str = HUB,
    reason: str | None = None,
) -> Lease:
    """Close a waiting lease."""
    return _end(connection, lease, LeaseState.CLOSED, cause, now, by, reason)


def begin_closing(
    connection: sa.Connection,
    lease: Lease,
    cause: Cause | None,
    now: float,
    *,
    by: str = HUB,
    reason: str | None = None,
) -> Lease:
    """Record that a lease ends, before its container is inspected."""
    return _end(connection, lease, LeaseState.CLOSING, cause, now, by, reason)


def record_lease(
    connection: sa.Connection,
    action: TrailAction,
    before: Lease | None,
    after: Lease,
    *,
    at: float,
    by: str = HUB,
    reason: str | None = None,
) -> None:
    """Write the trail entry of a changed lease."""
    old_row = None if before is None else _as_trail_row(before)
    entry = TrailEntry(at, by, action, f"lease {after.id}", old_row, _as_trail_row(after), reason)
    trail.record(connection, entry)


def _as_trail_row(lease: Lease) -> dict[str, Any]:
    """Return the columns without the values of an admin's variables, which may be secrets."""
    return {**tables.as_row(lease), "extras": redact(lease.extras)}


def _end(
    connection: sa.Connection,
    lease: Lease,
    state: LeaseState,
    cause: Cause | None,
    now: float,
    by: str,
    reason: str | None,
) -> Lease:
    ended = write(connection, lease, state=state, ended_at=now, cause=cause)
    record_lease(
        connection,
        TrailAction.LEASE_ENDED,
        lease,
        ended,
        at=now,
        by=by,
        reason=reason or (None if cause is None else cause.value),
    )
    return ended


def free(connection: sa.Connection, lease: Lease) -> Lease:
    """Close a lease whose container was seen gone."""
    connection.execute(sa.delete(tables.claims).where(tables.claims.c.lease_id == lease.id))
    return write(connection, lease, state=LeaseState.CLOSED)


def insert(connection: sa.Connection, lease: Lease) -> None:
    """Add a lease and claim its GPUs; raises IntegrityError where one of them is claimed already."""
    connection.execute(sa.insert(tables.leases).values(tables.as_row(lease)))
    claim(connection, lease)


def claim(connection: sa.Connection, lease: Lease) -> None:
    """Claim the GPUs of ``lease``; raises IntegrityError where one of them is claimed already."""
    for uuid in lease.gpu_uuids:
        connection.execute(sa.insert(tables.claims).values(gpu_uuid=uuid, lease_id=lease.id))


def live_leases(connection: sa.Connection) -> tuple[Lease, ...]:
    """Return every lease that is not closed, in order of arrival."""
    order = (tables.leases.c.requested_at, tables.leases.c.id)
    live = sa.select(tables.leases).where(tables.LIVE).order_by(*order)
    return tuple(tables.as_lease(row) for row in connection.execute(live))


def live_leases_of(connection: sa.Connection, user: str) -> tuple[Lease, ...]:
    """Return the live leases of one user, for all servers."""
    where = sa.and_(tables.LIVE, tables.leases.c.user == user)
    own = connection.execute(sa.select(tables.leases).where(where))
    return tuple(tables.as_lease(row) for row in own)


def live_lease(connection: sa.Connection, user: str, server: str) -> Lease | None:
    """Return the server's lease that is not closed."""
    columns = tables.leases.c
    where = sa.and_(tables.LIVE, columns.user == user, columns.server == server)
    row = connection.execute(sa.select(tables.leases).where(where)).one_or_none()
    return None if row is None else tables.as_lease(row)


def open_quarantines(connection: sa.Connection) -> tuple[Quarantine, ...]:
    """Return the active quarantines, by UUID."""
    columns = tables.quarantines.c
    select = sa.select(tables.quarantines).where(columns.returned_at.is_(None))
    rows = connection.execute(select.order_by(columns.gpu_uuid))
    return tuple(Quarantine(**row._mapping) for row in rows)


def last_quarantines(connection: sa.Connection) -> tuple[Quarantine, ...]:
    """Return the latest quarantine of each GPU, active or ended, by UUID."""
    select = sa.select(tables.quarantines).order_by(tables.quarantines.c.gpu_uuid)
    return tuple(Quarantine(**row._mapping) for row in connection.execute(select))


def last_quarantine(connection: sa.Connection, gpu_uuid: str) -> Quarantine | None:
    """Return the GPU's latest quarantine, active or ended."""
    where = tables.quarantines.c.gpu_uuid == gpu_uuid
    row = connection.execute(sa.select(tables.quarantines).where(where)).one_or_none()
    return None if row is None else Quarantine(**row._mapping)


def drains(connection: sa.Connection) -> tuple[Drain, ...]:
    """Return the active drains, by UUID."""
    select = sa.select(tables.drains).order_by(tables.drains.c.gpu_uuid)
    return tuple(Drain(**row._mapping) for row in connection.execute(select))


def drain_of(connection: sa.Connection, gpu_uuid: str) -> Drain | None:
    """Return the GPU's active drain, None if it has none."""
    where = tables.drains.c.gpu_uuid == gpu_uuid
    row = connection.execute(sa.select(tables.drains).where(where)).one_or_none()
    return None if row is None else Drain(**row._mapping)


def write_quarantine(connection: sa.Connection, quarantine: Quarantine) -> None:
    """Replace the GPU's latest quarantine with ``quarantine``."""
    where = tables.quarantines.c.gpu_uuid == quarantine.gpu_uuid
    connection.execute(sa.delete(tables.quarantines).where(where))
    connection.execute(sa.insert(tables.quarantines).values(vars(quarantine)))


def read_use(
    connection: sa.Connection, leases: Sequence[Lease], now: float, half_life_hours: float
) -> dict[int, float]:
    """Return the recent GPU-hours of all accounts by uid: closed leases, decayed, plus the live ``leases``."""
    hours = {
        row.uid: decay(row.gpu_hours, now - row.at, half_life_hours)
        for row in connection.execute(sa.select(tables.use))
    }
    for lease in leases:
        if lease.gpu_uuids:
            weight = _weigh(lease, now, half_life_hours)
            hours[lease.uid] = hours.get(lease.uid, 0.0) + weight
    return hours


def add_use(connection: sa.Connection, lease: Lease, now: float, half_life_hours: float) -> None:
    """Add the GPU-hours of a closing lease to its account."""
    if not lease.gpu_uuids:
        return
    where = tables.use.c.uid == lease.uid
    row = connection.execute(sa.select(tables.use).where(where)).one_or_none()
    before = 0.0 if row is None else decay(row.gpu_hours, now - row.at, half_life_hours)
    hours = before + _weigh(lease, now, half_life_hours)
    connection.execute(sa.delete(tables.use).where(where))
    connection.execute(sa.insert(tables.use).values(uid=lease.uid, gpu_hours=hours, at=now))


def _weigh(lease: Lease, now: float, half_life_hours: float) -> float:
    if lease.granted_at is None:
        return 0.0
    # the time that Docker takes to prove the end counts for no account
    end = now if lease.ended_at is None else lease.ended_at
    held = accrue(len(lease.gpu_uuids), end - lease.granted_at, half_life_hours)
    return decay(held, now - end, half_life_hours)
