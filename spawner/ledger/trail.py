"""The audit trail: who did what, when, from what to what, and why.

It is written within the transaction of what it tells, so neither stands without the other, and it only ever grows: the
database itself refuses to change or delete a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from spawner.ledger import tables
from spawner.ledger.database import read_transaction

HUB = "(hub)"
"""The actor of what nobody in particular did; the parentheses keep it apart from user names."""
CHUNK = 500


class TrailAction(StrEnum):
    """What the trail tells of; what its subject is stands beside it."""

    LEASE_GRANTED = "lease.granted"  # lease ID
    LEASE_ADOPTED = "lease.adopted"  # lease ID; its container proved it
    LEASE_EXTENDED = "lease.extended"  # lease ID
    LEASE_MOVED = "lease.moved"  # lease ID; an admin gave it another place in line
    LEASE_ENDED = "lease.ended"  # lease ID; it left the line, or began to close
    LEASE_LOST = "lease.lost"  # lease ID
    GPU_QUARANTINED = "gpu.quarantined"  # UUID
    GPU_RETURNED = "gpu.returned"  # UUID
    GPU_DRAINED = "gpu.drained"  # UUID
    GPU_UNDRAINED = "gpu.undrained"  # UUID
    QUOTA_CHANGED = "quota.changed"  # default, group NAME or user NAME


@dataclass(frozen=True)
class Entry:
    """One thing that was done.

    ``at`` is of the lease clock; ``before`` is None where there was nothing before, ``after`` where nothing is left.
    """

    at: float
    actor: str
    action: TrailAction
    subject: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    reason: str | None = None


@dataclass(frozen=True)
class StoredEntry:
    """An entry as it stands in the trail; a later one has a higher ``id``."""

    id: int
    entry: Entry


@dataclass(frozen=True)
class TrailFilter:
    """Which entries are meant: those that agree with every field that is not None.

    ``text`` may stand anywhere in one, in whichever case. ``since`` and ``until`` are of the lease clock; an entry at
    ``until`` itself is not meant.
    """

    actor: str | None = None
    action: TrailAction | None = None
    subject: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None


def record(connection: sa.Connection, entry: Entry) -> None:
    """Write ``entry`` in the transaction of ``connection``, at whose end it stands for ever."""
    values = {
        **vars(entry),
        "action": entry.action.value,
        "before": _dump(entry.before),
        "after": _dump(entry.after),
    }
    connection.execute(sa.insert(tables.trail).values(values))


class Trail:
    """The part of the ledger that can be asked what was done."""

    _engine: sa.Engine

    def trail(
        self, search: TrailFilter = TrailFilter(), *, before_id: int | None = None, limit: int = CHUNK
    ) -> tuple[StoredEntry, ...]:
        """Return the newest ``limit`` entries that are meant, newest first, of those before ``before_id``."""
        columns = tables.trail.c
        select = sa.select(tables.trail).where(*_conditions(search))
        if before_id is not None:
            select = select.where(columns.id < before_id)
        with read_transaction(self._engine) as connection:
            rows = connection.execute(select.order_by(columns.id.desc()).limit(limit)).all()
        return tuple(_as_written(row) for row in rows)

    def trail_chunks(self, search: TrailFilter = TrailFilter()) -> Iterator[tuple[StoredEntry, ...]]:
        """Yield all entries that are meant, newest first, some at a time: none of them is in memory for long.

        Between two chunks nothing of the database is held; what is written meanwhile is not among them.
        """
        before_id: int | None = None
        while chunk := self.trail(search, before_id=before_id):
            yield chunk
            before_id = chunk[-1].id


def _conditions(search: TrailFilter) -> Iterator[sa.ColumnElement[bool]]:
    columns = tables.trail.c
    exact = (
        (columns.actor, search.actor),
        (columns.action, search.action),
        (columns.subject, search.subject),
    )
    yield from (column == str(value) for column, value in exact if value is not None)
    if search.text is not None:
        anywhere = (c for c in columns if isinstance(c.type, sa.String))
        yield sa.or_(*(column.icontains(search.text, autoescape=True) for column in anywhere))
    if search.since is not None:
        yield columns.at >= search.since
    if search.until is not None:
        yield columns.at < search.until


def _dump(value: Mapping[str, Any] | None) -> str | None:
    # as people write it, so that it is found by its text
    return None if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _as_written(row: sa.Row[Any]) -> StoredEntry:
    values = dict(row._mapping)
    for side in ("before", "after"):
        values[side] = None if values[side] is None else json.loads(values[side])
    return StoredEntry(values.pop("id"), Entry(**{**values, "action": TrailAction(values["action"])}))
