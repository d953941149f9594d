"""Accounts: gives each hub user a Linux identity of their own, which no other user ever gets."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from spawner.ledger import tables
from spawner.ledger.database import read_transaction, transaction
from spawner.ledger.trail import TrailAction, TrailEntry, record
from spawner.model import Account, LeaseState

_REMOVED = "(removed) "  # the identity of no user of the hub begins like this


class Accounts:
    """The part of the ledger that holds the accounts; account number N has the uid ``first_uid`` + N."""

    def __init__(self, engine: sa.Engine, first_uid: int) -> None:
        self._engine = engine
        self._first_uid = first_uid

    def get_or_create_account(self, user: str, identity: str) -> Account:
        """Return the account of the hub user with this ``identity``; the first call creates it, named ``user``."""
        with transaction(self._engine) as connection:
            return self._get_or_create_account(connection, user, identity)

    def account_by_identity(self, identity: str) -> Account | None:
        """Return the account of the hub user with this ``identity``, None before their first start."""
        with read_transaction(self._engine) as connection:
            return self._select_account(connection, identity)

    def account(self, uid: int) -> Account | None:
        """Return the account whose uid is ``uid``."""
        with read_transaction(self._engine) as connection:
            where = tables.accounts.c.number == uid - self._first_uid
            row = connection.execute(sa.select(tables.accounts).where(where)).one_or_none()
        return None if row is None else self._as_account(row)

    def accounts(self) -> dict[str, Account]:
        """Return every account by the identity of its user."""
        with read_transaction(self._engine) as connection:
            found = connection.execute(sa.select(tables.accounts)).all()
        return {row.identity: self._as_account(row) for row in found}

    def last_use_of_homes(self) -> dict[int, float | None]:
        """Return by uid when the last lease of each account ended; None while one is live."""
        columns = tables.leases.c
        # a live lease has no end: its row counts once more than its end
        latest = sa.select(
            columns.uid,
            sa.func.max(columns.ended_at),
            sa.func.count(),
            sa.func.count(columns.ended_at),
        ).group_by(columns.uid)
        with read_transaction(self._engine) as connection:
            found = connection.execute(latest).all()
        return {uid: at if leases == ended else None for uid, at, leases, ended in found}

    def end_account(self, uid: int, volume: str, *, by: str, reason: str, now: float) -> bool:
        """Record that an admin removes the home of ``uid``, whose user is deleted; False if it has a live lease.

        No identity matches the account any more. A second call records nothing.
        """
        where = tables.accounts.c.number == uid - self._first_uid
        is_live = (tables.leases.c.uid == uid) & (tables.leases.c.state != LeaseState.CLOSED.value)
        with transaction(self._engine) as connection:
            if connection.execute(sa.select(tables.leases.c.id).where(is_live)).first() is not None:
                return False
            row = connection.execute(sa.select(tables.accounts).where(where)).one()
            if not self._as_account(row).is_home_removed:
                values = {"identity": f"{_REMOVED}{row.number}", "is_home_prepared": False}
                connection.execute(sa.update(tables.accounts).where(where).values(values))
                entry = TrailEntry(
                    now,
                    by,
                    TrailAction.HOME_REMOVED,
                    f"home {volume}",
                    {"user": row.user, "uid": uid},
                    None,
                    reason,
                )
                record(connection, entry)
        return True

    def unprepare_home(self, uid: int, volume: str, *, by: str, reason: str, now: float) -> bool:
        """Record that the next start of ``uid`` prepares its home again; False if it has a live lease."""
        where = tables.accounts.c.number == uid - self._first_uid
        is_live = (tables.leases.c.uid == uid) & (tables.leases.c.state != LeaseState.CLOSED.value)
        with transaction(self._engine) as connection:
            if connection.execute(sa.select(tables.leases.c.id).where(is_live)).first() is not None:
                return False
            connection.execute(
                sa.update(tables.accounts).where(where).values(is_home_prepared=False)
            )
            subject = f"home {volume}"
            entry = TrailEntry(
                now, by, TrailAction.HOME_MENDED, subject, None, {"uid": uid}, reason
            )
            record(connection, entry)
        return True

    def mark_home_prepared(self, uid: int) -> None:
        """Record that the home folder of ``uid`` exists and belongs to it."""
        with transaction(self._engine) as connection:
            where = tables.accounts.c.number == uid - self._first_uid
            connection.execute(
                sa.update(tables.accounts).where(where).values(is_home_prepared=True)
            )

    def _get_or_create_account(
        self, connection: sa.Connection, user: str, identity: str
    ) -> Account:
        account = self._select_account(connection, identity)
        if account is None:
            connection.execute(sa.insert(tables.accounts).values(user=user, identity=identity))
            return self._get_or_create_account(connection, user, identity)
        return account

    def _select_account(self, connection: sa.Connection, identity: str) -> Account | None:
        where = tables.accounts.c.identity == identity
        row = connection.execute(sa.select(tables.accounts).where(where)).one_or_none()
        return None if row is None else self._as_account(row)

    def _as_account(self, row: sa.Row[Any]) -> Account:
        return Account(
            uid=self._first_uid + row.number,
            user=row.user,
            is_home_prepared=row.is_home_prepared,
            is_home_removed=row.identity.startswith(_REMOVED),
        )
