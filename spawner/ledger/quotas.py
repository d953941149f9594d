"""Quotas: stores one row per subject and computes the quota of one user.

A change and its trail entry are one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from spawner.ledger import rows, tables
from spawner.ledger.accounts import Accounts
from spawner.ledger.database import read_transaction, transaction
from spawner.ledger.trail import TrailAction, TrailEntry, record
from spawner.model import Lease, Quota
from spawner.policy.quota_check import DAY_SECONDS, held_gpu_hours
from spawner.policy.quota_rows import (
    DEFAULT,
    EffectiveQuota,
    QuotaRow,
    QuotaRows,
    Subject,
    SubjectKind,
    group,
    resolve_quota,
)


@dataclass(frozen=True)
class Owner:
    """A hub user as quotas see them: leases carry ``name``, the user's quota row carries ``identity``."""

    name: str
    identity: str
    groups: tuple[str, ...]

    @property
    def subject(self) -> Subject:
        """Return the subject of the user's own row."""
        return Subject(SubjectKind.USER, self.identity, self.name)


@dataclass(frozen=True)
class Entitlement:
    """The quota of one user and what counts against it.

    ``rows`` are the quota rows that apply. ``leases`` are the live ones of the user and of groups that have a total.
    ``held`` are the GPU-hours that the user held in the quota's window.
    """

    effective: EffectiveQuota
    rows: QuotaRows
    leases: tuple[Lease, ...]
    held: float

    @property
    def quota(self) -> Quota:
        """Return the quota itself."""
        return self.effective.quota


@dataclass(frozen=True)
class Change:
    """The change of one quota row; None means no row."""

    subject: Subject
    before: QuotaRow | None
    after: QuotaRow | None


def diff_quotas(before: QuotaRows, after: Mapping[Subject, QuotaRow | None]) -> tuple[Change, ...]:
    """Return the changes from ``before`` to ``after``; an empty row means no row."""
    wanted = {
        subject: limits if limits != QuotaRow() else None for subject, limits in after.items()
    }
    return tuple(
        Change(subject, before.get(subject), limits)
        for subject, limits in wanted.items()
        if before.get(subject) != limits
    )


class Quotas(Accounts):
    """The part of the ledger that holds the quota rows."""

    def quota_rows(self) -> dict[Subject, QuotaRow]:
        """Return every row."""
        with read_transaction(self._engine) as connection:
            return _read(connection, sa.true())

    def set_quotas(
        self,
        wanted: Mapping[Subject, QuotaRow | None],
        *,
        by: str,
        reason: str | None,
        now: float,
        whole: bool = False,
        agree: Callable[[tuple[Change, ...]], None] = lambda _: None,
    ) -> tuple[Change, ...]:
        """Write the rows of the subjects in ``wanted``; with ``whole``, delete all other rows.

        Returns the changes, which the trail records with ``by`` and ``reason``. ``agree`` sees them first, inside the
        transaction: if it raises, nothing changes.
        """
        with transaction(self._engine) as connection:
            before = _read(connection, sa.true())
            others: dict[Subject, QuotaRow | None] = dict.fromkeys(before) if whole else {}
            changes = diff_quotas(before, {**others, **wanted})
            agree(changes)
            for change in changes:
                _write(connection, change)
                record(connection, _as_entry(change, by, reason, now))
            return changes

    def entitlement(self, owner: Owner, settings: Quota, *, now: float) -> Entitlement:
        """Return what ``owner`` may have now; ``settings`` applies to fields that no row sets."""
        with read_transaction(self._engine) as connection:
            return self._entitle(connection, owner, settings, now)

    def _entitle(
        self, connection: sa.Connection, owner: Owner, settings: Quota, now: float
    ) -> Entitlement:
        own = owner.subject
        columns = tables.quotas.c
        keys = [DEFAULT, own, *map(group, owner.groups)]
        pairs = [(subject.kind.value, subject.key) for subject in keys]
        applicable = _read(connection, sa.tuple_(columns.kind, columns.key).in_(pairs))
        effective = resolve_quota(applicable, own, owner.groups, settings)
        capped = {cap.group for cap in effective.quota.caps}
        live = (
            rows.live_leases(connection) if capped else rows.live_leases_of(connection, owner.name)
        )
        counted = tuple(
            lease for lease in live if lease.user == owner.name or capped.intersection(lease.groups)
        )
        held = self._read_held(connection, owner, effective.quota, now)
        return Entitlement(effective, applicable, counted, held)

    def _read_held(
        self, connection: sa.Connection, owner: Owner, quota: Quota, now: float
    ) -> float:
        account = self._select_account(connection, owner.identity)
        if account is None or quota.window_days is None:
            return 0.0
        since = now - quota.window_days * DAY_SECONDS
        columns = tables.leases.c
        ends_later = sa.or_(columns.ended_at.is_(None), columns.ended_at > since)
        where = (columns.uid == account.uid, columns.granted_at.is_not(None), ends_later)
        found = connection.execute(sa.select(tables.leases).where(*where))
        return held_gpu_hours((tables.as_lease(row) for row in found), quota, now)


def _read(connection: sa.Connection, where: sa.ColumnElement[bool]) -> dict[Subject, QuotaRow]:
    order = (tables.quotas.c.kind, tables.quotas.c.name)
    found = connection.execute(sa.select(tables.quotas).where(where).order_by(*order))
    return dict(_as_row(row) for row in found)


def _as_row(row: sa.Row[Any]) -> tuple[Subject, QuotaRow]:
    values = dict(row._mapping)
    subject = Subject(SubjectKind(values.pop("kind")), values.pop("key"), values.pop("name"))
    if values["releases"] is not None:
        values["releases"] = tuple(values["releases"])
    return subject, QuotaRow(**values)


def _write(connection: sa.Connection, change: Change) -> None:
    subject, columns = change.subject, tables.quotas.c
    where = sa.and_(columns.kind == subject.kind.value, columns.key == subject.key)
    connection.execute(sa.delete(tables.quotas).where(where))
    if change.after is not None:
        values = {**asdict(subject), **asdict(change.after), "kind": subject.kind.value}
        connection.execute(sa.insert(tables.quotas).values(values))


def _as_entry(change: Change, by: str, reason: str | None, now: float) -> TrailEntry:
    sides = (None if side is None else side.as_json() for side in (change.before, change.after))
    before, after = sides
    return TrailEntry(
        now, by, TrailAction.QUOTA_CHANGED, str(change.subject), before, after, reason
    )
