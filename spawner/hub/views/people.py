"""People view: builds the list of users and sign-ups, with their servers, quota, groups and GPU-hours.

One page of people costs a fixed number of queries, and loads no user of JupyterHub's ORM.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from jupyterhub import orm
from jupyterhub.user import User
from nativeauthenticator.orm import UserInfo
from sqlalchemy.orm import Session

from spawner.hub.identity import identify_row
from spawner.hub.schema.people import LogIn, PeopleJson, PersonJson, Show
from spawner.hub.views.timestamps import Timestamp
from spawner.hub.workbench import Workbench
from spawner.ledger import Ledger
from spawner.model import Lease, LeaseState, Quota
from spawner.policy.formatting import format_duration, format_gpu_count
from spawner.policy.quota_rows import QuotaRow, Subject, SubjectKind, resolve_quota
from spawner.policy.usage import DAY_SECONDS, day_of

PAGE_PEOPLE = 50
USAGE_DAYS = 30
_USERS, _GROUPS, _MEMBERS = orm.User.__table__, orm.Group.__table__, orm.user_group_map
_ACCOUNTS = UserInfo.__table__
_STATES = {
    LeaseState.WAITING: "waiting",
    LeaseState.GRANTED: "starting",
    LeaseState.CLOSING: "ending",
}


@dataclass(frozen=True)
class PeopleQuery:
    """One page of people: ``search`` is a part of a name or of a group; ``page`` counts from 1."""

    search: str = ""
    show: Show = Show.ALL
    page: int = 1


@dataclass(frozen=True)
class ServerSummary:
    """One server of a person; ``position`` is set while it waits, ``ends_at`` while it holds GPUs."""

    name: str
    lease: str
    state: str
    gpus: str
    ends_at: Timestamp | None
    left: str | None
    position: str | None


@dataclass(frozen=True)
class Person:
    """One user or sign-up; ``gpu_hours`` are those held in the last 30 days, ``seen_at`` is None for never.

    ``is_user`` is False for a sign-up that never logged in. ``identity`` is the user's, None without one.
    """

    name: str
    is_user: bool
    is_admin: bool
    log_in: LogIn
    groups: tuple[str, ...]
    quota: str
    servers: tuple[ServerSummary, ...]
    seen_at: Timestamp | None
    seen: str
    gpu_hours: float
    identity: str | None

    def as_json(self) -> PersonJson:
        """Return the person in the API's form."""
        return {
            "name": self.name,
            "admin": self.is_admin,
            "log_in": self.log_in,
            "groups": list(self.groups),
            "quota_summary": self.quota,
            "servers": [
                {
                    "server": one.name,
                    "lease": one.lease,
                    "state": one.state,
                    "holds": one.gpus,
                    "ends_at": None if one.ends_at is None else one.ends_at.iso,
                    "wait": one.position,
                }
                for one in self.servers
            ],
            "last_seen_at": None if self.seen_at is None else self.seen_at.iso,
            "gpu_hours": round(self.gpu_hours, 2),
        }


@dataclass(frozen=True)
class PeopleView:
    """One page of people; ``total`` counts all that match, ``waiting`` all sign-ups without an approval."""

    query: PeopleQuery
    people: tuple[Person, ...]
    total: int
    waiting: int
    now: float

    @property
    def pages(self) -> int:
        """The number of pages, at least 1."""
        return max(1, -(-self.total // PAGE_PEOPLE))

    def as_json(self) -> PeopleJson:
        """Return the page in the API's form."""
        return {
            "people": [person.as_json() for person in self.people],
            "page": self.query.page,
            "pages": self.pages,
            "people_count": self.total,
            "waiting_count": self.waiting,
        }


class PeopleDirectory:
    """Reads people from hub database and ledger; ``has_sign_up`` is True for accounts with an approval."""

    def __init__(self, workbench: Workbench, db: Session, *, has_sign_up: bool) -> None:
        """Keep the sources; nothing is read yet."""
        self._workbench = workbench
        self._db = db
        self._has_sign_up = has_sign_up

    async def read_page(self, query: PeopleQuery) -> PeopleView:
        """Return one page; raises Unknown."""
        leases = await asyncio.to_thread(self._workbench.ledger.live_leases)
        chosen = _select(query, leases, has_sign_up=self._has_sign_up)
        total = self._db.scalar(sa.select(sa.func.count()).select_from(chosen.subquery())) or 0
        offset = (query.page - 1) * PAGE_PEOPLE
        columns = chosen.selected_columns
        order = (columns.rank, columns.name)
        rows = self._db.execute(chosen.order_by(*order).limit(PAGE_PEOPLE).offset(offset)).all()
        people = await self._describe(rows, leases)
        waiting = count_waiting(self._db) if self._has_sign_up else 0
        return PeopleView(query, people, total, waiting, time.time())

    async def read_person(self, name: str) -> Person | None:
        """Return the user or sign-up ``name``, None without one; raises Unknown."""
        leases = await asyncio.to_thread(self._workbench.ledger.live_leases)
        everyone = _everyone(has_sign_up=self._has_sign_up).subquery()
        rows = self._db.execute(sa.select(everyone).where(everyone.c.name == name)).all()
        found = await self._describe(rows, leases)
        return found[0] if found else None

    async def _describe(
        self, rows: Sequence[sa.Row[Any]], leases: Iterable[Lease]
    ) -> tuple[Person, ...]:
        identities = {row.name: identify_row(row) for row in rows if row.id is not None}
        groups = self._read_groups([row.id for row in rows if row.id is not None])
        now = self._workbench.clock()
        quotas, hours = await asyncio.to_thread(
            _read_ledger, self._workbench.ledger, set(identities.values()), now
        )
        servers: dict[str, list[Lease]] = defaultdict(list)
        for lease in leases:
            servers[lease.user].append(lease)
        return tuple(
            self._describe_one(
                row,
                identities.get(row.name),
                groups[row.id],
                quotas,
                hours,
                servers[row.name],
            )
            for row in rows
        )

    def _describe_one(
        self,
        row: sa.Row[Any],
        identity: str | None,
        groups: Sequence[str],
        quotas: Mapping[Subject, QuotaRow],
        hours: Mapping[str, float],
        leases: Iterable[Lease],
    ) -> Person:
        subject = Subject(SubjectKind.USER, identity or "", row.name)
        effective = resolve_quota(quotas, subject, groups, self._workbench.settings.quota)
        seen_at = None
        if row.last_activity is not None:
            seen_at = Timestamp(row.last_activity.replace(tzinfo=UTC).timestamp())
        return Person(
            name=row.name,
            is_user=row.id is not None,
            is_admin=bool(row.admin),
            log_in=self._log_in_of(row),
            groups=tuple(groups),
            quota=_format_quota(effective.quota),
            servers=tuple(self._summarize(lease) for lease in leases),
            seen_at=seen_at,
            seen=_format_seen(seen_at),
            gpu_hours=hours.get(identity or "", 0.0),
            identity=identity,
        )

    def _log_in_of(self, row: sa.Row[Any]) -> LogIn:
        if not self._has_sign_up:
            return LogIn.PROVIDER
        if row.is_authorized is None:
            return LogIn.NO_ACCOUNT
        return LogIn.APPROVED if row.is_authorized else LogIn.WAITING

    def _summarize(self, lease: Lease) -> ServerSummary:
        workbench = self._workbench
        place = workbench.controller.position_of(lease.id)
        ends_at = lease.ends_at if lease.ended_at is None else None
        left = None if ends_at is None else format_duration(max(ends_at - workbench.clock(), 0.0))
        return ServerSummary(
            name=lease.server,
            lease=lease.id,
            state=_STATES.get(lease.state, "running"),
            gpus=_format_gpus(lease),
            ends_at=None if ends_at is None else Timestamp(workbench.clock.to_wall(ends_at)),
            left=left,
            position=None if place is None else f"{place.position} of {place.queue_length}",
        )

    def _read_groups(self, ids: Collection[int]) -> Mapping[int, list[str]]:
        select = sa.select(_MEMBERS.c.user_id, _GROUPS.c.name).join_from(_MEMBERS, _GROUPS)
        groups: dict[int, list[str]] = defaultdict(list)
        rows = self._db.execute(select.where(_MEMBERS.c.user_id.in_(ids)).order_by(_GROUPS.c.name))
        for user_id, name in rows:
            groups[user_id].append(name)
        return groups


def count_waiting(db: Session) -> int:
    """Return the number of sign-ups that wait for approval."""
    is_waiting = sa.not_(_ACCOUNTS.c.is_authorized)
    return db.scalar(sa.select(sa.func.count()).select_from(_ACCOUNTS).where(is_waiting)) or 0


def count_waiting_for(user: User) -> int:
    """Return the number of sign-ups, for the navigation bar of an admin."""
    return count_waiting(user.db)


def group_names(db: Session) -> list[str]:
    """Return the names of all groups of the hub."""
    return list(db.scalars(sa.select(_GROUPS.c.name).order_by(_GROUPS.c.name)))


def _everyone(*, has_sign_up: bool) -> sa.CompoundSelect[Any] | sa.Select[Any]:
    """Select every user, and every sign-up without a user; ``rank`` puts those who wait first."""
    users = (_USERS.c.id, _USERS.c.created, _USERS.c.name, _USERS.c.admin, _USERS.c.last_activity)
    if not has_sign_up:
        unknown = sa.null().label("is_authorized")
        return sa.select(*users, unknown, sa.literal(1).label("rank"))
    approved = _ACCOUNTS.c.is_authorized
    rank = sa.case((sa.not_(approved), 0), else_=1).label("rank")
    is_same = _ACCOUNTS.c.username == _USERS.c.name
    known = sa.select(*users, approved, rank).join_from(_USERS, _ACCOUNTS, is_same, isouter=True)
    empty = (
        sa.cast(sa.null(), _USERS.c.id.type).label("id"),
        sa.cast(sa.null(), _USERS.c.created.type).label("created"),
        _ACCOUNTS.c.username.label("name"),
        sa.false().label("admin"),
        sa.cast(sa.null(), _USERS.c.last_activity.type).label("last_activity"),
    )
    new = sa.select(*empty, approved, rank).join_from(_ACCOUNTS, _USERS, is_same, isouter=True)
    return sa.union_all(known, new.where(_USERS.c.id.is_(None)))


def _select(query: PeopleQuery, leases: Iterable[Lease], *, has_sign_up: bool) -> sa.Select[Any]:
    everyone = _everyone(has_sign_up=has_sign_up).subquery()
    columns = everyone.c
    chosen = sa.select(everyone)
    if query.search:
        members = sa.select(_MEMBERS.c.user_id).join_from(_MEMBERS, _GROUPS)
        in_group = members.where(_GROUPS.c.name.icontains(query.search, autoescape=True))
        is_named = columns.name.icontains(query.search, autoescape=True)
        chosen = chosen.where(sa.or_(is_named, columns.id.in_(in_group)))
    if query.show is Show.WAITING:
        chosen = chosen.where(columns.rank == 0)
    elif query.show is Show.SERVERS:
        chosen = chosen.where(columns.name.in_({lease.user for lease in leases}))
    elif query.show is Show.ADMINS:
        chosen = chosen.where(columns.admin)
    return chosen


def _read_ledger(
    ledger: Ledger, identities: Collection[str], now: float
) -> tuple[Mapping[Subject, QuotaRow], Mapping[str, float]]:
    """Return the quota rows, and the GPU-hours of the last days by identity."""
    accounts = ledger.accounts()
    by_uid = {accounts[one].uid: one for one in identities if one in accounts}
    since = float((day_of(now) - USAGE_DAYS + 1) * DAY_SECONDS)
    hours: dict[str, float] = defaultdict(float)
    if by_uid:
        for span in ledger.spans(since=since, until=now, now=now, uids=list(by_uid)):
            hours[by_uid[span.uid]] += span.held_seconds / 3600.0
    return ledger.quota_rows(), hours


def _format_quota(quota: Quota) -> str:
    at_once = "any number of GPUs" if quota.max_gpus is None else format_gpu_count(quota.max_gpus)
    if quota.gpu_hours is None:
        return at_once
    return f"{at_once}, {quota.gpu_hours:g} GPU-hours in {quota.window_days} days"


def _format_gpus(lease: Lease) -> str:
    return format_gpu_count(lease.gpu_count, lease.mig_profile) if lease.gpu_count else "no GPU"


def _format_seen(seen_at: Timestamp | None) -> str:
    if seen_at is None:
        return "never"
    return f"{format_duration(max(time.time() - seen_at.at, 0.0))} ago"
