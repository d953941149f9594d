"""Accounting: adds up the GPU-hours that leases held and used, per lease, GPU and day.

Held time comes from the leases. Measured time is added in one transaction per sample, which continues where the last
committed one ended: a restart of the hub neither loses time nor counts it twice.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from spawner.ledger import tables
from spawner.ledger.database import read_transaction, transaction
from spawner.model import Cause, Lease
from spawner.policy.usage import BRIDGED_PERIODS, UsageSpan, day_of, measured_seconds, split_days

_Key = tuple[str, str, int]
"""(lease id, GPU UUID, day)."""
_KEY = ("lease_id", "gpu_uuid", "day")


class _Measured(NamedTuple):
    """How long one GPU was measured, and for how much of that time it computed."""

    measured_seconds: float
    used_seconds: float


class Accounting:
    """The part of the ledger that measures how long GPUs were held and how busy they were."""

    _engine: sa.Engine

    def add_samples(
        self, utilization: Mapping[str, float], *, now: float, period_seconds: float
    ) -> None:
        """Add each GPU's ``utilization`` (0 to 1, by UUID) to its lease; a GPU without a value stays unmeasured."""
        with transaction(self._engine) as connection:
            rows = _recent_rows(connection, now - BRIDGED_PERIODS * period_seconds)
            last: dict[tuple[str, str], float] = {}
            for row in rows.values():
                key = row.lease_id, row.gpu_uuid
                last[key] = max(row.measured_until, last.get(key, row.measured_until))
            added: dict[_Key, _Measured] = {}
            for lease_id, uuid, granted_at in _holders(connection):
                if uuid not in utilization:
                    continue
                seconds = measured_seconds(
                    last.get((lease_id, uuid), granted_at), now, period_seconds
                )
                for day, part in split_days(now - seconds, now):
                    added[lease_id, uuid, day] = _Measured(part, part * utilization[uuid])
            _add(connection, added, rows, now)

    def spans(
        self,
        *,
        since: float,
        until: float,
        now: float,
        uids: Collection[int] | None = None,
        groups: Collection[str] = (),
    ) -> tuple[UsageSpan, ...]:
        """Return the GPU time of every lease from ``since`` until ``until`` or ``now``, whichever is earlier.

        ``uids`` and ``groups`` select leases; a group with a nearly equal name may be included.
        Both times should be midnight, because measured time is stored per day. A start that a restart of the hub cut
        off counts for no account, as in the order of the queue.
        """
        until = min(until, now)
        owned = None if uids is None else _owned_by(uids, groups)
        with read_transaction(self._engine) as connection:
            held = connection.execute(_held(since, until, owned))
            leases = [tables.as_lease(row) for row in held]
            measured = _read_measured(connection, day_of(since), day_of(until), owned)
        names = _latest_names(leases)
        return tuple(
            span for lease in leases for span in _spans_of(lease, names, since, until, measured)
        )

    def held_by_day(self, uid: int, *, since: float, now: float) -> dict[int, float]:
        """Return the GPU-hours that the account held, by day, from the midnight ``since``."""
        spans = self.spans(since=since, until=now, now=now, uids=(uid,))
        return _by_day((span.day, span.held_seconds) for span in spans)

    def used_by_day(self, uid: int, *, since: float, now: float) -> dict[int, float]:
        """Return the GPU-hours in which the account's GPUs are known to have computed, as ``held_by_day`` does."""
        spans = self.spans(since=since, until=now, now=now, uids=(uid,))
        return _by_day((span.day, span.used_seconds) for span in spans)


def _by_day(seconds: Iterable[tuple[int, float]]) -> dict[int, float]:
    hours: dict[int, float] = defaultdict(float)
    for day, part in seconds:
        hours[day] += part / 3600.0
    return dict(hours)


def _holders(connection: sa.Connection) -> Iterator[tuple[str, str, float]]:
    """Yield (lease id, GPU UUID, granted_at) of every claimed GPU whose lease has not ended."""
    leases, claims = tables.leases.c, tables.claims.c
    select = sa.select(leases.id, claims.gpu_uuid, leases.granted_at)
    held = select.join_from(tables.claims, tables.leases).where(leases.ended_at.is_(None))
    for row in connection.execute(held):
        yield row.id, row.gpu_uuid, row.granted_at


def _recent_rows(connection: sa.Connection, at: float) -> dict[_Key, sa.Row[Any]]:
    """Return the usage rows of live leases since the midnight before ``at``."""
    usage, leases = tables.usage.c, tables.leases.c
    select = sa.select(tables.usage).join_from(tables.usage, tables.leases)
    live = select.where(usage.day >= day_of(at), leases.ended_at.is_(None))
    return {(row.lease_id, row.gpu_uuid, row.day): row for row in connection.execute(live)}


def _add(
    connection: sa.Connection,
    added: Mapping[_Key, _Measured],
    rows: Mapping[_Key, sa.Row[Any]],
    now: float,
) -> None:
    """Update the existing ``rows`` and insert the missing ones."""
    inserts, updates = [], []
    for key, (measured, used) in added.items():
        row = rows.get(key)
        values = {
            "measured_seconds": measured + (row.measured_seconds if row else 0.0),
            "used_seconds": used + (row.used_seconds if row else 0.0),
            "measured_until": now,
        }
        if row is None:
            inserts.append(dict(zip(_KEY, key, strict=True)) | values)
        else:
            updates.append({f"key_{name}": part for name, part in zip(_KEY, key, strict=True)})
            updates[-1] |= values
    if inserts:
        connection.execute(sa.insert(tables.usage), inserts)
    if updates:
        has_key = [tables.usage.c[name] == sa.bindparam(f"key_{name}") for name in _KEY]
        connection.execute(sa.update(tables.usage).where(*has_key), updates)


def _owned_by(uids: Collection[int], groups: Collection[str]) -> sa.ColumnElement[bool]:
    leases = tables.leases.c
    # both databases store the list as JSON text; SQLite's LIKE ignores case
    written = sa.cast(leases.groups, sa.Text)
    of_groups = (written.contains(json.dumps(group), autoescape=True) for group in groups)
    return sa.or_(leases.uid.in_(uids), *of_groups)


def _held(since: float, until: float, owned: sa.ColumnElement[bool] | None) -> sa.Select[Any]:
    leases = tables.leases.c
    held = sa.select(tables.leases).where(
        leases.gpu_count > 0,
        leases.granted_at < until,
        sa.or_(leases.ended_at.is_(None), leases.ended_at > since),
        sa.or_(leases.cause.is_(None), leases.cause != Cause.INTERRUPTED.value),
    )
    return held if owned is None else held.where(owned)


def _read_measured(
    connection: sa.Connection, first: int, last: int, owned: sa.ColumnElement[bool] | None
) -> dict[_Key, _Measured]:
    usage = tables.usage.c
    select = sa.select(tables.usage).where(usage.day.between(first, last))
    if owned is not None:
        select = select.join_from(tables.usage, tables.leases).where(owned)
    return {
        (row.lease_id, row.gpu_uuid, row.day): _Measured(row.measured_seconds, row.used_seconds)
        for row in connection.execute(select)
    }


def _latest_names(leases: list[Lease]) -> dict[int, str]:
    """Return the latest name of each account: a renamed user stays one person."""
    return {lease.uid: lease.user for lease in sorted(leases, key=lambda lease: lease.requested_at)}


def _spans_of(
    lease: Lease,
    names: Mapping[int, str],
    since: float,
    until: float,
    measured: Mapping[_Key, _Measured],
) -> Iterator[UsageSpan]:
    if lease.granted_at is None:
        return
    end = until if lease.ended_at is None else min(lease.ended_at, until)
    for day, seconds in split_days(max(lease.granted_at, since), end):
        for uuid in lease.gpu_uuids:
            known = measured.get((lease.id, uuid, day), _Measured(0.0, 0.0))
            yield UsageSpan(
                day=day,
                lease_id=lease.id,
                gpu_uuid=uuid,
                uid=lease.uid,
                user=names[lease.uid],
                groups=lease.groups,
                release=lease.release,
                held_seconds=seconds,
                measured_seconds=known.measured_seconds,
                used_seconds=known.used_seconds,
            )
