"""Audit trail: records actor, action, time, values before and after, and reason.

An entry is written in the transaction of its action, so neither exists without the other. The trail only grows: the
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
from spawner.ledger.database import read_transaction, transaction

HUB = "(hub)"
"""The actor of automatic actions; the parentheses keep it apart from user names."""
CHUNK = 500


class TrailAction(StrEnum):
    """The kinds of entries; each comment names the subject of the entry."""

    LEASE_GRANTED = "lease.granted"  # lease ID
    LEASE_ADOPTED = "lease.adopted"  # lease ID; its container proved it
    LEASE_EXTENDED = "lease.extended"  # lease ID
    LEASE_MOVED = "lease.moved"  # lease ID; an admin moved it in the queue
    LEASE_ENDED = "lease.ended"  # lease ID; it left the queue, or began to close
    LEASE_LOST = "lease.lost"  # lease ID
    GPU_QUARANTINED = "gpu.quarantined"  # UUID
    GPU_RETURNED = "gpu.returned"  # UUID
    GPU_DRAINED = "gpu.drained"  # UUID
    GPU_UNDRAINED = "gpu.undrained"  # UUID
    DISK_LOW = "disk.low"  # disk
    DISK_RECOVERED = "disk.recovered"  # disk
    HOME_MENDED = "home.mended"  # home VOLUME; the next start gives its files to its user
    HOME_REMOVED = "home.removed"  # home VOLUME
    QUOTA_CHANGED = "quota.changed"  # default, group NAME or user NAME
    USER_APPROVED = "user.approved"  # user NAME; the account may log in
    USER_UNAPPROVED = "user.unapproved"  # user NAME; the approval was taken back
    USER_DISCARDED = "user.discarded"  # user NAME; the sign-up was removed
    USER_DELETED = "user.deleted"  # user NAME
    USER_PASSWORD_SET = "user.password_set"  # noqa: S105 - user NAME; by an admin
    USER_PASSWORD_LINK = "user.password_link"  # noqa: S105 - user NAME; an admin made a link to choose a password
    USER_LOGGED_OUT = "user.logged_out"  # user NAME; everywhere
    USER_ADMIN_CHANGED = "user.admin_changed"  # user NAME
    USER_GROUPS_CHANGED = "user.groups_changed"  # user NAME
    USER_CONFIRMED = "user.confirmed"  # user NAME; the password was typed again before an order
    GROUP_CREATED = "group.created"  # group NAME
    GROUP_DELETED = "group.deleted"  # group NAME
    SERVER_OPENED = "server.opened"  # user NAME, the owner; by another user
    LOG_INS_FAILED = "log_ins.failed"  # log-in; many of them in a short time


@dataclass(frozen=True)
class TrailEntry:
    """One recorded action.

    ``at`` is a time of the lease clock. ``before`` is None for something new, ``after`` for something removed.
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
    """An entry with its id in the trail; a later entry has a higher ``id``."""

    id: int
    entry: TrailEntry


@dataclass(frozen=True)
class TrailFilter:
    """Selects the entries that match every field that is not None.

    ``text`` matches any part of an entry and ignores case. ``since`` (inclusive) and ``until`` (exclusive) are times of
    the lease clock.
    """

    actor: str | None = None
    action: TrailAction | None = None
    subject: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None


def record(connection: sa.Connection, entry: TrailEntry) -> None:
    """Write ``entry`` in the transaction of ``connection``; after the commit it cannot change."""
    values = {
        **vars(entry),
        "action": entry.action.value,
        "before": _dump(entry.before),
        "after": _dump(entry.after),
    }
    connection.execute(sa.insert(tables.trail).values(values))


class Trail:
    """The part of the ledger that reads the audit trail."""

    _engine: sa.Engine

    def record_entry(self, entry: TrailEntry) -> None:
        """Write the entry of an action outside the ledger, such as a change of an account; raises Unknown."""
        with transaction(self._engine) as connection:
            record(connection, entry)

    def trail(
        self,
        search: TrailFilter = TrailFilter(),
        *,
        before_id: int | None = None,
        limit: int = CHUNK,
    ) -> tuple[StoredEntry, ...]:
        """Return the newest ``limit`` matching entries with ids below ``before_id``, newest first."""
        columns = tables.trail.c
        select = sa.select(tables.trail).where(*_conditions(search))
        if before_id is not None:
            select = select.where(columns.id < before_id)
        with read_transaction(self._engine) as connection:
            rows = connection.execute(select.order_by(columns.id.desc()).limit(limit)).all()
        return tuple(_as_written(row) for row in rows)

    def trail_after(self, after_id: int, limit: int = CHUNK) -> tuple[StoredEntry, ...]:
        """Return the oldest ``limit`` entries with ids above ``after_id``, oldest first."""
        newer = sa.select(tables.trail).where(tables.trail.c.id > after_id)
        with read_transaction(self._engine) as connection:
            rows = connection.execute(newer.order_by(tables.trail.c.id).limit(limit)).all()
        return tuple(_as_written(row) for row in rows)

    def add_entry(self, entry: TrailEntry) -> None:
        """Write an entry about something that no other part of the ledger records."""
        with transaction(self._engine) as connection:
            record(connection, entry)

    def trail_chunks(
        self, search: TrailFilter = TrailFilter()
    ) -> Iterator[tuple[StoredEntry, ...]]:
        """Yield all matching entries in chunks, newest first, so that memory use stays small.

        No transaction is open between two chunks; entries written meanwhile are not included.
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
    # not escaped to ASCII, so that a text search finds it
    return None if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _as_written(row: sa.Row[Any]) -> StoredEntry:
    values = dict(row._mapping)
    for side in ("before", "after"):
        values[side] = None if values[side] is None else json.loads(values[side])
    return StoredEntry(
        values.pop("id"), TrailEntry(**{**values, "action": TrailAction(values["action"])})
    )
