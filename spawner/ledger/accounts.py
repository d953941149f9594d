"""Accounts: gives each hub user a Linux identity of their own, which no other user ever gets."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from spawner.ledger import tables
from spawner.ledger.database import read_transaction, transaction
from spawner.model import Account


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
            uid=self._first_uid + row.number, user=row.user, is_home_prepared=row.is_home_prepared
        )
