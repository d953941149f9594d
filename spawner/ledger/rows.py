"""Single reads and writes of leases, each within a transaction of the ledger.

Every write of a lease that exists is compare-and-set on its id and epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from spawner.ledger import tables, trail
from spawner.ledger.trail import HUB, TrailAction, Entry
from spawner.model import Cause, Drain, Lease, LeaseState, Quarantine, StaleLease
from spawner.policy.queue import is_present
from spawner.policy.fair_share import accrue, decay


def is_unchanged(lease: Lease) -> sa.ColumnElement[bool]:
    """Return what finds ``lease`` as long as it has not changed."""
    return sa.and_(tables.leases.c.id == lease.id, tables.leases.c.epoch == lease.epoch)


def write(connection: sa.Connection, lease: Lease, **changes: Any) -> Lease:  # noqa: ANN401
    """Change ``lease`` and return it as it is then; raises StaleLease when it is not as it was read."""
    changed = replace(lease, epoch=lease.epoch + 1, **changes)
    values = tables.as_row(changed)
    found = connection.execute(sa.update(tables.leases).where(is_unchanged(lease)).values(values))
    if found.rowcount != 1:
        raise StaleLease(f"Lease {lease.id} has changed since epoch {lease.epoch}.")
    return changed


def grant(connection: sa.Connection, lease: Lease, gpu_uuids: Sequence[str], now: float) -> Lease:
    """Give a waiting lease its GPUs and its time."""
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
    """Write that a lease ends, before anyone looks whether its container is gone."""
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
    """Write into the trail what became of a lease."""
    told = None if before is None else tables.as_row(before)
    entry = Entry(at, by, action, f"lease {after.id}", told, tables.as_row(after), reason)
    trail.record(connection, entry)


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
    """Return every lease that is not closed, in order of first come."""
    order = (tables.leases.c.requested_at, tables.leases.c.id)
    live = sa.select(tables.leases).where(tables.LIVE).order_by(*order)
    return tuple(tables.as_lease(row) for row in connection.execute(live))


def live_leases_of(connection: sa.Connection, user: str) -> tuple[Lease, ...]:
    """Return those of one user, of whichever server."""
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
    """Return the quarantines that no admin has ended, by UUID."""
    columns = tables.quarantines.c
    select = sa.select(tables.quarantines).where(columns.returned_at.is_(None))
    rows = connection.execute(select.order_by(columns.gpu_uuid))
    return tuple(Quarantine(**row._mapping) for row in rows)


def last_quarantines(connection: sa.Connection) -> tuple[Quarantine, ...]:
    """Return the last quarantine of each GPU that ever was in one, ended or not, by UUID."""
    select = sa.select(tables.quarantines).order_by(tables.quarantines.c.gpu_uuid)
    return tuple(Quarantine(**row._mapping) for row in connection.execute(select))


def last_quarantine(connection: sa.Connection, gpu_uuid: str) -> Quarantine | None:
    """Return the GPU's last quarantine, ended or not."""
    where = tables.quarantines.c.gpu_uuid == gpu_uuid
    row = connection.execute(sa.select(tables.quarantines).where(where)).one_or_none()
    return None if row is None else Quarantine(**row._mapping)


def drains(connection: sa.Connection) -> tuple[Drain, ...]:
    """Return the drains that stand, by UUID."""
    select = sa.select(tables.drains).order_by(tables.drains.c.gpu_uuid)
    return tuple(Drain(**row._mapping) for row in connection.execute(select))


def drain_of(connection: sa.Connection, gpu_uuid: str) -> Drain | None:
    """Return the GPU's drain."""
    where = tables.drains.c.gpu_uuid == gpu_uuid
    row = connection.execute(sa.select(tables.drains).where(where)).one_or_none()
    return None if row is None else Drain(**row._mapping)


def write_quarantine(connection: sa.Connection, quarantine: Quarantine) -> None:
    """Keep ``quarantine`` in place of the GPU's last one."""
    where = tables.quarantines.c.gpu_uuid == quarantine.gpu_uuid
    connection.execute(sa.delete(tables.quarantines).where(where))
    connection.execute(sa.insert(tables.quarantines).values(vars(quarantine)))


def read_use(
    connection: sa.Connection, leases: Sequence[Lease], now: float, half_life_hours: float
) -> dict[int, float]:
    """Return everyone's recent GPU-hours by uid: those of closed leases, and what the live ``leases`` add."""
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
    """Add what a lease that is being closed was used."""
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
    # what Docker takes to prove the end is nobody's use
    end = now if lease.ended_at is None else lease.ended_at
    held = accrue(len(lease.gpu_uuids), end - lease.granted_at, half_life_hours)
    return decay(held, now - end, half_life_hours)
