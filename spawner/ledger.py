"""The ledger: who holds which GPU, in SQL.

A claim is one transaction, a GPU is the primary key of its claim, and every later write is compare-and-set on lease
id and epoch. Synchronous and thread-safe: callers keep it off the event loop.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from spawner.model import (
    TRANSITIONS,
    Account,
    Cause,
    Granted,
    IllegalTransition,
    Lease,
    LeaseState,
    Refused,
    Request,
    StaleLease,
)

Decision = tuple[str, ...] | Refused
BUSY_TIMEOUT_SECONDS = 10

_metadata = sa.MetaData()

_accounts = sa.Table(
    "accounts",
    _metadata,
    # autoincrement: a number, and so a uid, is never given twice, not even after a deletion
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("user", sa.String, nullable=False, unique=True),
    sa.Column("is_home_prepared", sa.Boolean, nullable=False, default=False),
    sqlite_autoincrement=True,
)

_LIVE = sa.text("state != 'closed'")
_leases = sa.Table(
    "leases",
    _metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("user", sa.String, nullable=False),
    sa.Column("server", sa.String, nullable=False),
    sa.Column("uid", sa.Integer, nullable=False),
    sa.Column("release", sa.String, nullable=False),
    sa.Column("gpu_uuids", sa.JSON, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("granted_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Column("cause", sa.String(16)),
    sa.Index(
        "one_live_lease_per_server",
        "user",
        "server",
        unique=True,
        sqlite_where=_LIVE,
    ),
)

_claims = sa.Table(
    "claims",
    _metadata,
    sa.Column("gpu_uuid", sa.String, primary_key=True),
    sa.Column("lease_id", sa.ForeignKey("leases.id"), nullable=False),
)


class Ledger:
    """One database of accounts, leases and claims."""

    def __init__(self, engine: sa.Engine, first_uid: int) -> None:
        """Use ``Ledger.open``."""
        self._engine = engine
        self._first_uid = first_uid

    @classmethod
    def open(cls, url: str, *, first_uid: int) -> Ledger:
        """Return the ledger at the SQLAlchemy ``url``, creating its tables where they are missing."""
        engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_immediate)
        ledger = cls(engine, first_uid)
        with ledger._transaction() as connection:
            _metadata.create_all(connection)
        return ledger

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def account_of(self, user: str) -> Account:
        """Return the account of the hub user ``user``, made at the first call."""
        with self._transaction() as connection:
            return self._account_of(connection, user)

    def account(self, uid: int) -> Account | None:
        """Return the account whose uid is ``uid``."""
        with self._transaction() as connection:
            where = _accounts.c.number == uid - self._first_uid
            row = connection.execute(sa.select(_accounts).where(where)).one_or_none()
        return None if row is None else self._as_account(row)

    def mark_home_prepared(self, uid: int) -> None:
        """Record that the home of ``uid`` belongs to it."""
        with self._transaction() as connection:
            where = _accounts.c.number == uid - self._first_uid
            connection.execute(sa.update(_accounts).where(where).values(is_home_prepared=True))

    def claim(
        self, request: Request, decide: Callable[[Sequence[Lease]], Decision], *, now: float
    ) -> Granted | Refused:
        """Decide and claim in one transaction: ``decide(live leases)`` names the GPUs or refuses."""
        with self._transaction() as connection:
            decision = decide(_live_leases(connection))
            if isinstance(decision, Refused):
                return decision
            lease = Lease(
                id=secrets.token_hex(8),
                epoch=1,
                user=request.user,
                server=request.server,
                uid=self._account_of(connection, request.user).uid,
                release=request.options.release,
                gpu_uuids=decision,
                state=LeaseState.GRANTED,
                granted_at=now,
            )
            _insert(connection, lease)
            return Granted(lease)

    def adopt(self, lease: Lease) -> bool:
        """Take up a lease that a running container proves; False where the ledger already knows otherwise."""
        try:
            with self._transaction() as connection:
                _insert(connection, lease)
        except sa.exc.IntegrityError:
            return False
        return True

    def lease(self, lease_id: str) -> Lease | None:
        """Return the lease, live or closed."""
        with self._transaction() as connection:
            where = _leases.c.id == lease_id
            row = connection.execute(sa.select(_leases).where(where)).one_or_none()
        return None if row is None else _as_lease(row)

    def live_leases(self) -> tuple[Lease, ...]:
        """Return every lease that is not closed, the oldest first."""
        with self._transaction() as connection:
            return _live_leases(connection)

    def move(
        self, lease: Lease, to: LeaseState, *, now: float, cause: Cause | None = None
    ) -> Lease:
        """Move ``lease`` as it was read to the state ``to`` and return it as it is now.

        CLOSING records ``now`` and ``cause``; CLOSED frees the GPUs. Raises IllegalTransition or StaleLease and then
        has changed nothing.
        """
        if to not in TRANSITIONS[lease.state]:
            raise IllegalTransition(
                f"Lease {lease.id} is {lease.state.value} and cannot become {to.value}."
            )
        values: dict[str, Any] = {"state": to.value, "epoch": lease.epoch + 1}
        if to is LeaseState.CLOSING:
            values |= {"ended_at": now, "cause": cause}
        with self._transaction() as connection:
            unchanged = sa.and_(_leases.c.id == lease.id, _leases.c.epoch == lease.epoch)
            changed = connection.execute(sa.update(_leases).where(unchanged).values(values))
            if changed.rowcount != 1:
                raise StaleLease(f"Lease {lease.id} has changed since epoch {lease.epoch}.")
            if to is LeaseState.CLOSED:
                connection.execute(sa.delete(_claims).where(_claims.c.lease_id == lease.id))
            where = _leases.c.id == lease.id
            return _as_lease(connection.execute(sa.select(_leases).where(where)).one())

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._engine.begin() as connection:
            yield connection

    def _account_of(self, connection: sa.Connection, user: str) -> Account:
        where = _accounts.c.user == user
        row = connection.execute(sa.select(_accounts).where(where)).one_or_none()
        if row is None:
            connection.execute(sa.insert(_accounts).values(user=user))
            row = connection.execute(sa.select(_accounts).where(where)).one()
        return self._as_account(row)

    def _as_account(self, row: sa.Row[Any]) -> Account:
        return Account(
            uid=self._first_uid + row.number, user=row.user, is_home_prepared=row.is_home_prepared
        )


def _insert(connection: sa.Connection, lease: Lease) -> None:
    values = {
        "id": lease.id,
        "epoch": lease.epoch,
        "user": lease.user,
        "server": lease.server,
        "uid": lease.uid,
        "release": lease.release,
        "gpu_uuids": list(lease.gpu_uuids),
        "state": lease.state.value,
        "granted_at": lease.granted_at,
    }
    connection.execute(sa.insert(_leases).values(values))
    for uuid in lease.gpu_uuids:
        connection.execute(sa.insert(_claims).values(gpu_uuid=uuid, lease_id=lease.id))


def _live_leases(connection: sa.Connection) -> tuple[Lease, ...]:
    live = sa.select(_leases).where(_LIVE).order_by(_leases.c.granted_at, _leases.c.id)
    return tuple(_as_lease(row) for row in connection.execute(live))


def _as_lease(row: sa.Row[Any]) -> Lease:
    return Lease(
        id=row.id,
        epoch=row.epoch,
        user=row.user,
        server=row.server,
        uid=row.uid,
        release=row.release,
        gpu_uuids=tuple(row.gpu_uuids),
        state=LeaseState(row.state),
        granted_at=row.granted_at,
        ended_at=row.ended_at,
        cause=None if row.cause is None else Cause(row.cause),
    )


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401
    # transactions are begun by _begin_immediate, not by the driver, which would begin them too late
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
