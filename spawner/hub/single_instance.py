"""Lets one hub at a time work on a data folder, and on a ledger on PostgreSQL.

Both locks die with who holds them, however that ends; whoever does not get one has changed nothing.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
from pathlib import Path

import psycopg
import sqlalchemy as sa
from jupyterhub.app import JupyterHub

from spawner.ledger import Ledger
from spawner.ledger.database import LEDGER_LOCK, describe, open_postgresql, database_errors_as_unknown
from spawner.model import SettingsError
from spawner.settings import Settings

log = logging.getLogger("workbench.hub")

LOCK_NAME = "hub.lock"
HUB_LOCK = LEDGER_LOCK + 1
PATIENCE_SECONDS = 1.0
"""What PostgreSQL may take to notice that the hub before has ended."""


def acquire_hub_lock(folder: Path) -> int | None:
    """Lock ``folder`` for as long as this process lives, and return the open descriptor that holds it.

    A subcommand such as ``jupyterhub upgrade-db`` reads the same configuration and is no hub: None, nothing is locked.
    Raises SettingsError when another hub holds the folder.
    """
    if not JupyterHub.initialized():
        return None
    try:
        # a bare descriptor: a file object would close, and so unlock, when nobody remembers it
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(
            f"The hub cannot use its data folder {folder}: {error.strerror}."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise SettingsError(
            f"Another hub already works on {folder}: stop that one first, or give this one data of its own."
        ) from error
    return lock


def open_ledger(settings: Settings) -> Ledger:
    """Open the ledger of ``settings`` for this hub alone; a subcommand takes it as it is.

    Raises SettingsError when another hub has it or a later release made it, Unknown.
    """
    url, first_uid = settings.ledger_url, settings.first_uid
    half_life_hours = float(settings.fair_half_life_hours)
    if not JupyterHub.initialized():
        return Ledger.open_existing(url, first_uid=first_uid, half_life_hours=half_life_hours)
    # a SQLite file lies in the folder that is locked already
    guard = LedgerLock(url) if sa.make_url(url).get_backend_name() == "postgresql" else None
    return Ledger.open(url, first_uid=first_uid, half_life_hours=half_life_hours, guard=guard)


class LedgerLock:
    """One hub's hold on a ledger on PostgreSQL; a guard of each of its transactions.

    It is two locks of one connection, which the server lets go when that connection ends: the hub's, which only one
    can have, and a mark, by which any other connection sees that this one still lives. The ledger's transactions are
    serial, so one that saw the mark comes before everything that a later hub does.
    """

    def __init__(self, url: str) -> None:
        """Take hold; raises SettingsError when another hub has it, Unknown."""
        self._where = describe(url)
        self._engine = open_postgresql(
            url,
            lock_seconds=PATIENCE_SECONDS,
            isolation_level="AUTOCOMMIT",
            poolclass=sa.NullPool,
        )
        with database_errors_as_unknown():
            self._connection, self._mark = self._take()

    def __call__(self, connection: sa.Connection) -> None:
        """Let the transaction that ``connection`` begins go on while this hub holds the ledger.

        After the connection was lost it is held anew; where another hub has come meanwhile, this process ends.
        """
        is_lost = connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(self._mark)))
        if not is_lost.scalar_one():
            return
        log.warning("The connection that held the ledger was lost; it is taken anew.")
        self._connection.invalidate()
        try:
            self._connection, self._mark = self._take()
        except SettingsError as error:
            log.critical("This hub ends at once: %s", error)
            os._exit(1)  # nothing that it would do on its way out may be done

    def close(self) -> None:
        """Let the ledger go."""
        self._connection.close()

    def _take(self) -> tuple[sa.Connection, int]:
        connection, mark = self._engine.connect(), secrets.randbits(63)
        try:
            for lock in (HUB_LOCK, mark):
                connection.execute(sa.select(sa.func.pg_advisory_lock(lock)))
        except sa.exc.DBAPIError as error:
            connection.close()
            if isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise SettingsError(
                    f"Another hub already works on the ledger {self._where}: stop that one first, "
                    "or give this one a ledger of its own."
                ) from error
            raise
        return connection, mark
