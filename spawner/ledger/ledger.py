"""Ledger: records in SQL which lease waits for, holds and has used which GPU.

A decision and its consequences are one transaction. A GPU is the primary key of its claim. Every later write is
compare-and-set on lease id and epoch. The ledger is synchronous and thread-safe: callers keep it off the event loop.
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
from spawner.ledger.quarantines import Quarantines
from spawner.ledger.queue_moves import QueueMoves
from spawner.ledger.quotas import Owner, Quotas
from spawner.ledger.trail import HUB, Trail, TrailAction
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
from spawner.policy.fair_share import HALF_LIFE_HOURS
from spawner.policy.quota_check import lease_hours

Check = Callable[[Sequence[Lease], Quota, float], Refused | None]
"""(live leases that count, without this server's waiting one; quota; GPU-hours held) → a refusal, or None."""
Grants = Mapping[str, tuple[str, ...]]
"""lease id → UUIDs of the GPUs that it gets."""
Plan = Callable[[Sequence[Lease], Sequence[Lease], Mapping[int, float], Set[str]], Grants]
"""(waiting in order of arrival; holding; recent GPU-hours by uid; UUIDs of unavailable GPUs) → the grants."""
Extension = Callable[[Sequence[Lease], Quota, float], Lease | Refused]
"""(live leases; the quota; GPU-hours held in its window) → the lease with its new end, or a refusal."""

_REUSABLE_STATES = frozenset({LeaseState.WAITING, LeaseState.GRANTED})


@dataclass(frozen=True)
class LedgerSnapshot:
    """The state from which the queue is planned, read in one transaction.

    ``leases`` are the live ones in order of arrival. ``use`` has the recent GPU-hours by uid, so that they follow an
    account through a rename. ``quarantines`` and ``drains`` are the active ones, by GPU UUID.
    """

    leases: tuple[Lease, ...]
    use: Mapping[int, float]
    quarantines: Mapping[str, Quarantine]
    drains: Mapping[str, Drain]

    @functools.cached_property
    def holding(self) -> tuple[Lease, ...]:
        """The leases that hold GPUs."""
        return tuple(lease for lease in self.leases if lease.gpu_uuids)


class Ledger(Quotas, Quarantines, Drains, QueueMoves, Accounting, Trail):
    """One database of accounts, leases, claims, usage, quotas, quarantines, drains and their audit trail."""

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
        """Open the ledger at ``url`` and migrate it to this release's version; only the hub calls this.

        ``guard`` runs at the start of every transaction. Raises SettingsError for a ledger of a later release, Unknown.
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
        cls,
        url: str,
        *,
        first_uid: int,
        half_life_hours: float = HALF_LIFE_HOURS,
        read_only: bool = False,
    ) -> Ledger:
        """Open a ledger that the hub has created; raises Unknown for a missing ledger or another version.

        ``read_only`` is for a process that has more rights than the hub: it follows no link and writes no page.
        """
        engine = open_engine(url, may_create=False, read_only=read_only)
        try:
            with read_transaction(engine) as connection:
                require_current(connection, url)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, first_uid, half_life_hours)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    # --- the queue

    def admit(self, request: Request, check: Check, *, quota: Quota, now: float) -> Lease | Refused:
        """Add ``request`` to the queue, or grant it at once if it needs no GPU; one transaction.

        A server that already waits for, or was granted, the same options keeps its lease, so a spawn that a restarted
        hub repeats keeps its position. Changed options go to the end of the queue. A lease of an earlier account with
        the same user name is not reused. ``quota`` applies to fields that no quota row sets.
        """
        with self._transaction() as connection:
            own = rows.live_lease(connection, request.user, request.server)
            if own is not None and self._is_reusable(connection, own, request):
                when_idle, start_mode = request.options.when_idle, request.options.start_mode
                if (own.when_idle, own.start_mode) == (when_idle, start_mode):
                    return own
                # these choices claim nothing, so they change without a loss of the position
                return rows.write(connection, own, when_idle=when_idle, start_mode=start_mode)
            waiting_lease = own if own is not None and own.state is LeaseState.WAITING else None
            owner = Owner(request.user, request.identity, request.groups)
            entitlement = self._entitle(connection, owner, quota, now)
            quota, held = entitlement.quota, entitlement.held
            others = [lease for lease in entitlement.leases if lease != waiting_lease]
            refused = check(others, quota, held)
            if refused is not None:
                return refused
            if waiting_lease is not None:
                rows.leave_queue(connection, waiting_lease, Cause.USER, now, by=request.user)
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
                start_mode=request.options.start_mode,
                extras=request.extras,
            )
            rows.insert(connection, lease)
            if lease.state is LeaseState.GRANTED:
                rows.record_lease(connection, TrailAction.LEASE_GRANTED, None, lease, at=now)
            return lease

    def advance(self, plan: Plan, *, now: float) -> tuple[Lease, ...]:
        """Plan the queue, grant what ``plan`` returns and return the granted leases; one transaction.

        An empty queue skips ``plan``.
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
        """Return the state from which the queue is planned."""
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
        """Record a running lease that its container proves; False if another lease holds its GPUs or its server.

        It replaces a waiting lease of the same id or server, which has its container already.
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
                failed = {quarantine.gpu_uuid for quarantine in rows.open_quarantines(connection)}
                if not failed.isdisjoint(lease.gpu_uuids):
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
        """Return the latest lease of the server, live or closed."""
        columns = tables.leases.c
        where = sa.and_(columns.user == user, columns.server == server)
        # a requeued lease has the requested_at of the closed lease that it replaces
        is_closed = columns.state == LeaseState.CLOSED.value
        order = (columns.requested_at.desc(), is_closed, columns.ended_at.desc())
        latest = sa.select(tables.leases).where(where).order_by(*order)
        with self._read_transaction() as connection:
            row = connection.execute(latest.limit(1)).one_or_none()
        return None if row is None else tables.as_lease(row)

    def last_ended(self, user: str, server: str) -> Lease | None:
        """Return the GPU lease of the server that ended last."""
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
        """Return every lease that is not closed, in order of arrival."""
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
        """Move ``lease``, as it was read, to the state ``to`` and return the new lease.

        CLOSING, and CLOSED from the queue, record ``now`` and ``cause``; the trail records ``by`` and ``reason``.
        CLOSED frees the GPUs and adds their use. Only ``advance`` grants.
        Raises IllegalTransition or StaleLease; nothing has changed then.
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
        """Close an unused CLOSING lease and return its server to its old queue position, under a new lease id."""
        _require_legal(lease, LeaseState.CLOSED)
        with self._transaction() as connection:
            rows.free(connection, lease)
            requeued = replace(
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
            rows.insert(connection, requeued)
            return requeued

    def mark_claimed(self, lease: Lease) -> Lease:
        """Record that the user of the RUNNING ``lease`` has opened the server; raises StaleLease."""
        with self._transaction() as connection:
            return rows.write(connection, lease, is_claimed=True)

    def extend(
        self, decide: Extension, owner: Owner, *, quota: Quota, now: float
    ) -> Lease | Refused:
        """Extend one live lease of ``owner`` as ``decide`` returns it, in one transaction.

        ``quota`` applies to fields that no quota row sets.
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
        """Return the last heartbeat that a hub wrote to this ledger."""
        with self._read_transaction() as connection:
            row = connection.execute(sa.select(tables.heartbeat)).one_or_none()
        return None if row is None else Heartbeat(row.boot_id, row.offset_seconds, row.at)

    def record_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Replace the last heartbeat with ``heartbeat``."""
        with self._transaction() as connection:
            connection.execute(sa.delete(tables.heartbeat))
            connection.execute(sa.insert(tables.heartbeat).values(one=1, **vars(heartbeat)))

    def _transaction(self) -> AbstractContextManager[sa.Connection]:
        return transaction(self._engine)

    def _read_transaction(self) -> AbstractContextManager[sa.Connection]:
        return read_transaction(self._engine)

    def _is_reusable(self, connection: sa.Connection, own: Lease, request: Request) -> bool:
        is_reusable = own.state in _REUSABLE_STATES and _has_same_options(own, request)
        return (
            is_reusable
            and own.uid
            == self._get_or_create_account(connection, request.user, request.identity).uid
        )


def _new_id() -> str:
    return secrets.token_hex(8)


def _has_same_options(lease: Lease, request: Request) -> bool:
    options = request.options
    mig_profile = options.mig_profile if options.gpus else None
    return (
        (lease.release, lease.gpu_count, lease.mig_profile)
        == (options.release, options.gpus, mig_profile)
    ) and (options.hours is None or options.hours == lease.hours)


def _require_legal(lease: Lease, to: LeaseState) -> None:
    if to not in TRANSITIONS[lease.state]:
        raise IllegalTransition(
            f"Lease {lease.id} is {lease.state.value} and cannot become {to.value}."
        )
