"""Single instance: locks the data folder, and a ledger on PostgreSQL, for one hub at a time.

Both locks end with the process that holds them. A hub that does not get them changes nothing.
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
from spawner.ledger.database import (
    LEDGER_LOCK,
    database_errors_as_unknown,
    describe,
    open_postgresql,
)
from spawner.model import SettingsError
from spawner.settings import Settings

log = logging.getLogger(__name__)

LOCK_NAME = "hub.lock"
HUB_LOCK = LEDGER_LOCK + 1
PATIENCE_SECONDS = 1.0
"""Time for PostgreSQL to notice that the previous hub has ended."""


def acquire_hub_lock(folder: Path) -> int | None:
    """Lock ``folder`` for the life of this process, and return the open descriptor that holds the lock.

    A subcommand such as ``jupyterhub upgrade-db`` reads the same configuration but is no hub: it locks nothing and
    gets None. Raises SettingsError when another hub holds the folder.
    """
    if not JupyterHub.initialized():
        return None
    try:
        # a bare descriptor: a file object that is collected would close it, and so unlock
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
            f"Another hub already uses {folder}: stop that hub, or give this one its own data folder."
        ) from error
    return lock


def open_ledger(settings: Settings) -> Ledger:
    """Open the ledger of ``settings`` for this hub alone; a subcommand opens it without lock or migration.

    Raises SettingsError when another hub holds it or a later release wrote it, Unknown.
    """
    url, first_uid = settings.ledger_url, settings.first_uid
    half_life_hours = float(settings.fair_half_life_hours)
    if not JupyterHub.initialized():
        return Ledger.open_existing(url, first_uid=first_uid, half_life_hours=half_life_hours)
    # a SQLite file is in the data folder, which is locked already
    guard = LedgerLock(url) if sa.make_url(url).get_backend_name() == "postgresql" else None
    return Ledger.open(url, first_uid=first_uid, half_life_hours=half_life_hours, guard=guard)


class LedgerLock:
    """One hub's lock on a ledger on PostgreSQL; it guards each transaction.

    It is two advisory locks of one connection, which the server releases when that connection ends. The first is the
    hub's exclusive lock. The second is a random mark: another connection that cannot take it knows that the lock's
    connection lives. The ledger's transactions are serializable, so a transaction that saw the mark precedes
    everything that a later hub does.
    """

    def __init__(self, url: str) -> None:
        """Acquire the lock; raises SettingsError when another hub holds it, Unknown."""
        self._where = describe(url)
        self._engine = open_postgresql(
            url,
            lock_seconds=PATIENCE_SECONDS,
            isolation_level="AUTOCOMMIT",
            poolclass=sa.NullPool,
        )
        with database_errors_as_unknown():
            self._connection, self._mark = self._acquire()

    def __call__(self, connection: sa.Connection) -> None:
        """Allow the transaction that ``connection`` begins, while this hub holds the lock.

        A lost lock is acquired again; if another hub has it by then, this process ends.
        """
        is_lost = connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(self._mark)))
        if not is_lost.scalar_one():
            return
        log.warning("ledger_lock state=lost reason=connection ended, it is acquired again")
        self._connection.invalidate()
        try:
            self._connection, self._mark = self._acquire()
        except SettingsError as error:
            log.critical("hub state=exiting reason=%s", error)
            os._exit(1)  # an orderly exit would write to a ledger that another hub owns

    def close(self) -> None:
        """Release the lock."""
        self._connection.close()

    def _acquire(self) -> tuple[sa.Connection, int]:
        connection, mark = self._engine.connect(), secrets.randbits(63)
        try:
            for lock in (HUB_LOCK, mark):
                connection.execute(sa.select(sa.func.pg_advisory_lock(lock)))
        except sa.exc.DBAPIError as error:
            connection.close()
            if isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise SettingsError(
                    f"Another hub already uses the ledger {self._where}: stop that hub, "
                    "or give this one its own ledger."
                ) from error
            raise
        return connection, mark
