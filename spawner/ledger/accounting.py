"""The ledger's accounting: GPU-hours held and used, by lease, GPU and day.

Held is read off the leases themselves; what was measured is added up in one transaction per look, which goes on where
the last one that was committed ended, so nothing counts twice or is lost to a restart.
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
    """Of ``measured_seconds`` a GPU computed during ``used_seconds``."""

    measured_seconds: float
    used_seconds: float


class Accounting:
    """The part of the ledger that knows who held GPUs for how long, and how busy they were."""

    _engine: sa.Engine

    def add_samples(
        self, utilization: Mapping[str, float], *, now: float, period_seconds: float
    ) -> None:
        """Add to every lease how busy its GPUs are, from 0 to 1 by UUID; a GPU that is not in it is unknown."""
        with transaction(self._engine) as connection:
            rows = _recent_rows(connection, now - BRIDGED_PERIODS * period_seconds)
            last: dict[tuple[str, str], float] = {}
            for row in rows.values():
                place = row.lease_id, row.gpu_uuid
                last[place] = max(row.measured_until, last.get(place, row.measured_until))
            added: dict[_Key, _Measured] = {}
            for lease_id, uuid, granted_at in _holders(connection):
                if uuid not in utilization:
                    continue
                seconds = measured_seconds(last.get((lease_id, uuid), granted_at), now, period_seconds)
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
        """Return what every lease held from ``since`` until ``until`` or ``now``.

        With ``uids``, only those of these accounts and of ``groups``, and perhaps of groups called nearly the same.
        Both times should be midnight, for what was measured is kept by day. A start that only a restart of the hub
        cut off is nobody's use, as for the order of the line.
        """
        until = min(until, now)
        whose = None if uids is None else _whose(uids, groups)
        with read_transaction(self._engine) as connection:
            held = connection.execute(_held(since, until, whose))
            leases = [tables.as_lease(row) for row in held]
            measured = _read_measured(connection, day_of(since), day_of(until), whose)
        names = _latest_names(leases)
        return tuple(
            span for lease in leases for span in _spans_of(lease, names, since, until, measured)
        )

    def held_by_day(self, uid: int, *, since: float, now: float) -> dict[int, float]:
        """Return the GPU-hours that the account held on each day since the midnight ``since``."""
        spans = self.spans(since=since, until=now, now=now, uids=(uid,))
        return _by_day((span.day, span.held_seconds) for span in spans)

    def used_by_day(self, uid: int, *, since: float, now: float) -> dict[int, float]:
        """Return the GPU-hours in which its GPUs are known to have computed, by day, as for ``held_by_day``."""
        spans = self.spans(since=since, until=now, now=now, uids=(uid,))
        return _by_day((span.day, span.used_seconds) for span in spans)


def _by_day(seconds: Iterable[tuple[int, float]]) -> dict[int, float]:
    hours: dict[int, float] = defaultdict(float)
    for day, part in seconds:
        hours[day] += part / 3600.0
    return dict(hours)


def _holders(connection: sa.Connection) -> Iterator[tuple[str, str, float]]:
    """Yield (lease id, GPU UUID, when it was granted) of what is held and not being given back."""
    leases, claims = tables.leases.c, tables.claims.c
    select = sa.select(leases.id, claims.gpu_uuid, leases.granted_at)
    held = select.join_from(tables.claims, tables.leases).where(leases.ended_at.is_(None))
    for row in connection.execute(held):
        yield row.id, row.gpu_uuid, row.granted_at


def _recent_rows(connection: sa.Connection, at: float) -> dict[_Key, sa.Row[Any]]:
    """Return what was measured since the midnight before ``at`` in leases that go on."""
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
    """Add to the ``rows`` that are there, and make the others."""
    news, changes = [], []
    for key, (measured, used) in added.items():
        row = rows.get(key)
        values = {
            "measured_seconds": measured + (row.measured_seconds if row else 0.0),
            "used_seconds": used + (row.used_seconds if row else 0.0),
            "measured_until": now,
        }
        if row is None:
            news.append(dict(zip(_KEY, key, strict=True)) | values)
        else:
            changes.append({f"its_{name}": part for name, part in zip(_KEY, key, strict=True)})
            changes[-1] |= values
    if news:
        connection.execute(sa.insert(tables.usage), news)
    if changes:
        is_it = [tables.usage.c[name] == sa.bindparam(f"its_{name}") for name in _KEY]
        connection.execute(sa.update(tables.usage).where(*is_it), changes)


def _whose(uids: Collection[int], groups: Collection[str]) -> sa.ColumnElement[bool]:
    leases = tables.leases.c
    # both databases keep the list as the JSON that was written; SQLite's LIKE takes no notice of case
    written = sa.cast(leases.groups, sa.Text)
    of_groups = (written.contains(json.dumps(group), autoescape=True) for group in groups)
    return sa.or_(leases.uid.in_(uids), *of_groups)


def _held(since: float, until: float, whose: sa.ColumnElement[bool] | None) -> sa.Select[Any]:
    leases = tables.leases.c
    held = sa.select(tables.leases).where(
        leases.gpu_count > 0,
        leases.granted_at < until,
        sa.or_(leases.ended_at.is_(None), leases.ended_at > since),
        sa.or_(leases.cause.is_(None), leases.cause != Cause.INTERRUPTED.value),
    )
    return held if whose is None else held.where(whose)


def _read_measured(
    connection: sa.Connection, first: int, last: int, whose: sa.ColumnElement[bool] | None
) -> dict[_Key, _Measured]:
    usage = tables.usage.c
    select = sa.select(tables.usage).where(usage.day.between(first, last))
    if whose is not None:
        select = select.join_from(tables.usage, tables.leases).where(whose)
    return {
        (row.lease_id, row.gpu_uuid, row.day): _Measured(row.measured_seconds, row.used_seconds)
        for row in connection.execute(select)
    }


def _latest_names(leases: list[Lease]) -> dict[int, str]:
    """Return what each account was called last; whoever was renamed is one person."""
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
