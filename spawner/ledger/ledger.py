"""The ledger: who waits for, holds and has used which GPU, in SQL.

A decision and what follows from it are one transaction, a GPU is the primary key of its claim, and every later write
is compare-and-set on lease id and epoch. Synchronous and thread-safe: callers keep it off the event loop.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import sqlalchemy as sa

from spawner.ledger import rows, tables
from spawner.ledger.accounting import Accounting
from spawner.ledger.database import Guard, open_engine, read_transaction, transaction
from spawner.ledger.drains import Drains
from spawner.ledger.migrations import migrate, require_current
from spawner.ledger.queue_moves import QueueMoves
from spawner.ledger.quarantines import Quarantines
from spawner.ledger.quotas import Owner, Quotas
from spawner.ledger.trail import HUB, TrailAction, Trail
from spawner.model import (
    TRANSITIONS,
    Cause,
    Drain,
    Heartbeat,
    IllegalTransition,
    Lease,
    LeaseState,
    Quarantine,
    Quota,
    Refused,
    Request,
)
from spawner.policy.quota_check import lease_hours
from spawner.policy.fair_share import HALF_LIFE_HOURS

Check = Callable[[Sequence[Lease], Quota, float], Refused | None]
"""(live leases that count, but this server's place in line; quota; GPU-hours held) → why not, or None."""
Grants = Mapping[str, tuple[str, ...]]
"""lease id → UUIDs of what it gets."""
Plan = Callable[[Sequence[Lease], Sequence[Lease], Mapping[int, float], Set[str]], Grants]
"""(waiting in order of first come, holding, recent GPU-hours by uid, UUIDs that are out) → what is given out."""
Extension = Callable[[Sequence[Lease], Quota, float], Lease | Refused]
"""(live leases, the quota, the GPU-hours held in its window) → the one to be extended, with its new end, or why not."""

_KEPT = frozenset({LeaseState.WAITING, LeaseState.GRANTED})


@dataclass(frozen=True)
class LedgerSnapshot:
    """What the line is decided on: live leases in order of first come, everyone's recent GPU-hours, and who is out.

    ``use`` is by uid: whoever is renamed keeps theirs, who gets the name of another has none.
    ``quarantines`` are those that no admin has ended, ``drains`` those that stand, both by UUID.
    """

    leases: tuple[Lease, ...]
    use: Mapping[int, float]
    quarantines: Mapping[str, Quarantine]
    drains: Mapping[str, Drain]

    @functools.cached_property
    def holding(self) -> tuple[Lease, ...]:
        """Those that have GPUs in hand."""
        return tuple(lease for lease in self.leases if lease.gpu_uuids)


class Ledger(Quotas, Quarantines, Drains, QueueMoves, Accounting, Trail):
    """One database of accounts, leases, claims, use and quarantines, and of what was done with them."""

    def __init__(self, engine: sa.Engine, first_uid: int, half_life_hours: float) -> None:
        """Use ``Ledger.open``."""
        super().__init__(engine, first_uid)
        self._half_life_hours = half_life_hours

    @classmethod
    def open(
        cls,
        url: str,
        *,
        first_uid: int,
        half_life_hours: float = HALF_LIFE_HOURS,
        guard: Guard | None = None,
    ) -> Ledger:
        """Return the ledger at ``url``, brought to this release's version: for the hub, which is alone.

        ``guard`` is asked at the beginning of every transaction. Raises SettingsError for a ledger of a later release,
        Unknown.
        """
        engine = open_engine(url, may_create=True, guard=guard)
        try:
            migrate(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, first_uid, half_life_hours)

    @classmethod
    def open_existing(
        cls, url: str, *, first_uid: int, half_life_hours: float = HALF_LIFE_HOURS
    ) -> Ledger:
        """Return the ledger at ``url`` as the hub has made it; raises Unknown where there is none of this version."""
        engine = open_engine(url, may_create=False)
        try:
            with read_transaction(engine) as connection:
                require_current(connection, url)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, first_uid, half_life_hours)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    # --- the line

    def admit(self, request: Request, check: Check, *, quota: Quota, now: float) -> Lease | Refused:
        """Give ``request`` its place in line, or what it asks for at once where that is no GPU.

        One transaction. A server that already waits for, or was granted, just this keeps its lease, so that a spawn
        which a restarted hub issues anew keeps its place; a changed wish goes to the end. Whoever else had the name
        before, and their account, is not the one who asks. ``quota`` is the settings' word, where no row has one.
        """
        with self._transaction() as connection:
            own = rows.live_lease(connection, request.user, request.server)
            if own is not None and self._is_kept(connection, own, request):
                return own
            waits = own if own is not None and own.state is LeaseState.WAITING else None
            owner = Owner(request.user, request.identity, request.groups)
            entitlement = self._entitle(connection, owner, quota, now)
            quota, held = entitlement.quota, entitlement.held
            others = [lease for lease in entitlement.leases if lease != waits]
            refused = check(others, quota, held)
            if refused is not None:
                return refused
            if waits is not None:
                rows.leave_queue(connection, waits, Cause.USER, now, by=request.user)
            gpus = request.options.gpus
            lease = Lease(
                id=_new_id(),
                epoch=1,
                user=request.user,
                server=request.server,
                uid=self._get_or_create_account(connection, request.user, request.identity).uid,
                release=request.options.release,
                gpu_count=gpus,
                mig_profile=request.options.mig_profile if gpus else None,
                hours=lease_hours(request, quota, others, held, now),
                priority=quota.priority,
                gpu_uuids=(),
                state=LeaseState.WAITING if gpus else LeaseState.GRANTED,
                requested_at=now,
                granted_at=None if gpus else now,
                is_claimed=not gpus,
                groups=request.groups,
                when_idle=request.options.when_idle,
            )
            rows.insert(connection, lease)
            if lease.state is LeaseState.GRANTED:
                rows.record_lease(connection, TrailAction.LEASE_GRANTED, None, lease, at=now)
            return lease

    def advance(self, plan: Plan, *, now: float) -> tuple[Lease, ...]:
        """Plan the line and grant, in one transaction, what the plan gives out; returns the leases that were granted.

        Where nobody waits ``plan`` is not asked.
        """
        with self._transaction() as connection:
            live = rows.live_leases(connection)
            waiting = {lease.id: lease for lease in live if lease.state is LeaseState.WAITING}
            if not waiting:
                return ()
            holding = [lease for lease in live if lease.gpu_uuids]
            grants = plan(
                list(waiting.values()),
                holding,
                rows.read_use(connection, holding, now, self._half_life_hours),
                {one.gpu_uuid for one in rows.open_quarantines(connection)}
                | {one.gpu_uuid for one in rows.drains(connection)},
            )
            return tuple(
                rows.grant(connection, waiting[lease_id], gpu_uuids, now)
                for lease_id, gpu_uuids in grants.items()
            )

    def snapshot(self, *, now: float) -> LedgerSnapshot:
        """Return what the line is decided on, as it is now."""
        with self._read_transaction() as connection:
            leases = rows.live_leases(connection)
            return LedgerSnapshot(
                leases,
                rows.read_use(connection, leases, now, self._half_life_hours),
                {one.gpu_uuid: one for one in rows.open_quarantines(connection)},
                {one.gpu_uuid: one for one in rows.drains(connection)},
            )

    # --- leases

    def adopt(self, lease: Lease) -> bool:
        """Take up a running lease that its container proves; False where GPUs or server are held by another lease.

        Where the same lease, or the same server, merely waits, it has meanwhile got what it waited for.
        """
        try:
            with self._transaction() as connection:
                for other in rows.live_leases(connection):
                    if other.state is not LeaseState.WAITING:
                        continue
                    if other.id == lease.id:
                        connection.execute(sa.delete(tables.leases).where(rows.is_unchanged(other)))
                        lease = replace(lease, epoch=other.epoch + 1)
                    elif (other.user, other.server) == (lease.user, lease.server):
                        rows.leave_queue(connection, other, Cause.LOST, lease.requested_at)
                ill = {quarantine.gpu_uuid for quarantine in rows.open_quarantines(connection)}
                if not ill.isdisjoint(lease.gpu_uuids):
                    lease = replace(lease, state=LeaseState.LOST)
                rows.insert(connection, lease)
                rows.record_lease(
                    connection, TrailAction.LEASE_ADOPTED, None, lease, at=lease.requested_at
                )
        except sa.exc.IntegrityError:
            return False
        return True

    def lease(self, lease_id: str) -> Lease | None:
        """Return the lease, live or closed."""
        with self._read_transaction() as connection:
            where = tables.leases.c.id == lease_id
            row = connection.execute(sa.select(tables.leases).where(where)).one_or_none()
        return None if row is None else tables.as_lease(row)

    def last_lease(self, user: str, server: str) -> Lease | None:
        """Return the lease that the server had last, live or closed."""
        columns = tables.leases.c
        where = sa.and_(columns.user == user, columns.server == server)
        # one that went back into line closed an older lease with the same first come
        is_closed = columns.state == LeaseState.CLOSED.value
        order = (columns.requested_at.desc(), is_closed, columns.ended_at.desc())
        latest = sa.select(tables.leases).where(where).order_by(*order)
        with self._read_transaction() as connection:
            row = connection.execute(latest.limit(1)).one_or_none()
        return None if row is None else tables.as_lease(row)

    def last_ended(self, user: str, server: str) -> Lease | None:
        """Return the lease with GPUs of the server that ended last."""
        columns = tables.leases.c
        where = sa.and_(columns.user == user, columns.server == server, columns.gpu_count > 0)
        ended = where & columns.ended_at.is_not(None)
        latest = sa.select(tables.leases).where(ended).order_by(columns.ended_at.desc())
        with self._read_transaction() as connection:
            row = connection.execute(latest.limit(1)).one_or_none()
        return None if row is None else tables.as_lease(row)

    def live_lease(self, user: str, server: str) -> Lease | None:
        """Return the lease of the server that is not closed."""
        with self._read_transaction() as connection:
            return rows.live_lease(connection, user, server)

    def live_leases(self) -> tuple[Lease, ...]:
        """Return every lease that is not closed, in order of first come."""
        with self._read_transaction() as connection:
            return rows.live_leases(connection)

    def move(
        self,
        lease: Lease,
        to: LeaseState,
        *,
        now: float,
        cause: Cause | None = None,
        by: str = HUB,
        reason: str | None = None,
    ) -> Lease:
        """Move ``lease`` as it was read to the state ``to`` and return it as it is now.

        CLOSING, and CLOSED out of the line, records ``now`` and ``cause``, and in the trail who did it and why; CLOSED
        frees the GPUs and counts their use.
        Raises IllegalTransition or StaleLease and then has changed nothing. Only ``advance`` grants.
        """
        _require_legal(lease, to)
        if to is LeaseState.GRANTED:
            raise IllegalTransition(f"Lease {lease.id} cannot be granted out of turn.")
        with self._transaction() as connection:
            if lease.state is LeaseState.WAITING:
                return rows.leave_queue(connection, lease, cause, now, by=by, reason=reason)
            if to is LeaseState.CLOSED:
                rows.add_use(connection, lease, now, self._half_life_hours)
                return rows.free(connection, lease)
            if to is LeaseState.CLOSING:
                return rows.begin_closing(connection, lease, cause, now, by=by, reason=reason)
            return rows.write(connection, lease, state=to)

    def requeue(self, lease: Lease) -> Lease:
        """Close a CLOSING lease, unused, and give its server its old place in line, under a new id."""
        _require_legal(lease, LeaseState.CLOSED)
        with self._transaction() as connection:
            rows.free(connection, lease)
            again = replace(
                lease,
                id=_new_id(),
                epoch=1,
                gpu_uuids=(),
                state=LeaseState.WAITING,
                granted_at=None,
                ends_at=None,
                ended_at=None,
                cause=None,
                is_claimed=False,
            )
            rows.insert(connection, again)
            return again

    def mark_claimed(self, lease: Lease) -> Lease:
        """Record that the user of the RUNNING ``lease`` has been seen on its server; raises StaleLease."""
        with self._transaction() as connection:
            return rows.write(connection, lease, is_claimed=True)

    def extend(
        self, decide: Extension, owner: Owner, *, quota: Quota, now: float
    ) -> Lease | Refused:
        """Let ``decide`` give one of the live leases of ``owner`` another end, in one transaction.

        ``quota`` is the settings' word, where no row has one.
        """
        with self._transaction() as connection:
            leases = rows.live_leases(connection)
            entitlement = self._entitle(connection, owner, quota, now)
            answer = decide(leases, entitlement.quota, entitlement.held)
            if isinstance(answer, Refused):
                return answer
            extended = rows.write(connection, answer, ends_at=answer.ends_at)
            before = next(lease for lease in leases if lease.id == answer.id)
            rows.record_lease(
                connection, TrailAction.LEASE_EXTENDED, before, extended, at=now, by=owner.name
            )
            return extended

    # --- the lease clock

    def heartbeat(self) -> Heartbeat | None:
        """Return the last heartbeat of any hub on this ledger."""
        with self._read_transaction() as connection:
            row = connection.execute(sa.select(tables.heartbeat)).one_or_none()
        return None if row is None else Heartbeat(row.boot_id, row.offset_seconds, row.at)

    def record_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Keep ``heartbeat`` in place of the last one."""
        with self._transaction() as connection:
            connection.execute(sa.delete(tables.heartbeat))
            connection.execute(sa.insert(tables.heartbeat).values(one=1, **vars(heartbeat)))

    def _transaction(self) -> AbstractContextManager[sa.Connection]:
        return transaction(self._engine)

    def _read_transaction(self) -> AbstractContextManager[sa.Connection]:
        return read_transaction(self._engine)

    def _is_kept(self, connection: sa.Connection, own: Lease, request: Request) -> bool:
        is_kept = own.state in _KEPT and _is_same_wish(own, request)
        return (
            is_kept and own.uid == self._get_or_create_account(connection, request.user, request.identity).uid
        )


def _new_id() -> str:
    return secrets.token_hex(8)


def _is_same_wish(lease: Lease, request: Request) -> bool:
    wish = request.options
    mig_profile = wish.mig_profile if wish.gpus else None
    return (
        (lease.release, lease.gpu_count, lease.mig_profile)
        == (wish.release, wish.gpus, mig_profile)
    ) and (wish.hours is None or wish.hours == lease.hours)


def _require_legal(lease: Lease, to: LeaseState) -> None:
    if to not in TRANSITIONS[lease.state]:
        raise IllegalTransition(
            f"Lease {lease.id} is {lease.state.value} and cannot become {to.value}."
        )
