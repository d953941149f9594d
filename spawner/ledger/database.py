"""Database: opens SQLite or PostgreSQL for the ledger, with transactions that run strictly one after another.

A database that does not answer raises ``Unknown``; no message contains its password.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from spawner.model import Unknown

BUSY_TIMEOUT_SECONDS = 2
LEDGER_LOCK = 0x67707577_6C656467
"""The advisory lock of every transaction on PostgreSQL: no other one runs between its reads and its writes."""
_TCP_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_ONLY_READS = "workbench_only_reads"

Guard = Callable[[sa.Connection], None]
"""Runs at the start of every transaction, before its first read; an exception ends the transaction."""


def open_engine(
    url: str, *, may_create: bool, read_only: bool = False, guard: Guard | None = None
) -> sa.Engine:
    """Return an engine with serial transactions; no connection is open yet.

    Without ``may_create`` a missing SQLite file raises Unknown. With ``read_only`` no statement writes, and a SQLite
    file behind a symbolic link raises Unknown.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = _open_sqlite(parsed, may_create=may_create, read_only=read_only)
    else:
        engine = open_postgresql(url, lock_seconds=BUSY_TIMEOUT_SECONDS, read_only=read_only)
        sa.event.listen(engine, "begin", _lock_ledger)
    if guard is not None:
        sa.event.listen(engine, "begin", guard)
    return engine


def open_postgresql(
    url: str,
    *,
    lock_seconds: float,
    read_only: bool = False,
    **engine_options: Any,  # noqa: ANN401
) -> sa.Engine:
    """Return an engine with durable connections that wait ``lock_seconds`` for a lock.

    Server and client each notice a dead peer within half a minute, so a lost host keeps no lock.
    """
    parsed = sa.make_url(url)
    options = {
        "lock_timeout": int(lock_seconds * 1000),
        "idle_in_transaction_session_timeout": 3 * BUSY_TIMEOUT_SECONDS * 1000,
        "synchronous_commit": "on",
        "default_transaction_read_only": "on" if read_only else "off",
        **{f"tcp_{name}": value for name, value in _TCP_KEEPALIVE.items()},
    }
    flags = " ".join(f"-c {name}={value}" for name, value in options.items())
    return sa.create_engine(
        parsed,
        # a stricter level takes its snapshot before the lock and misses the last transaction's writes
        **{"isolation_level": "READ COMMITTED", "pool_pre_ping": True, **engine_options},
        connect_args={
            **_TCP_KEEPALIVE,
            "connect_timeout": BUSY_TIMEOUT_SECONDS,
            "options": f"{parsed.query.get('options', '')} {flags}",
        },
    )


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Run one transaction and commit it at the end; raises Unknown when the database does not answer.

    The outcome is then unknown: the connection may have been lost after the commit.
    """
    with database_errors_as_unknown(), engine.begin() as connection:
        yield connection


@contextmanager
def read_transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Run one read-only transaction over one snapshot; raises Unknown when the database does not answer.

    On SQLite it waits for no writer and delays none.
    """
    with transaction(engine.execution_options(**{_ONLY_READS: True})) as connection:
        yield connection


@contextmanager
def database_errors_as_unknown() -> Iterator[None]:
    """Turn every database failure into Unknown, except IntegrityError: a row that exists already."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise
    except sa.exc.DBAPIError as error:
        sentence = " ".join(str(error.orig).split()).rstrip(".")
        raise Unknown(f"The ledger cannot be reached: {sentence}.") from error
    except sa.exc.TimeoutError as error:
        raise Unknown("The ledger cannot be reached: all its connections are in use.") from error


def describe(url: str | sa.URL) -> str:
    """Return the location of the database, for messages."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return str(parsed.database)
    return f"{parsed.database} on {parsed.host or 'this host'}"


def missing_ledger(url: str | sa.URL) -> Unknown:
    """Return the error for a database in which the hub has created no ledger yet."""
    return Unknown(f"There is no ledger at {describe(url)} yet: start the hub.")


def _open_sqlite(url: sa.URL, *, may_create: bool, read_only: bool) -> sa.Engine:
    file = Path(url.database or "").absolute()
    if not may_create:
        if not file.is_file():
            raise missing_ledger(url)
        # if the file disappears later, a new connection must not create an empty one
        mode = "ro" if read_only else "rw"
        url = url.set(database=file.as_uri(), query={"mode": mode, "uri": "true"})
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
    if read_only:
        sa.event.listen(engine, "do_connect", lambda *_: _reject_link(file))
        sa.event.listen(engine, "connect", _leave_begin_to_sqlalchemy)
    else:
        sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _reject_link(file: Path) -> None:
    for path in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm", "-journal"))):
        if path.is_symlink():
            raise Unknown(f"The ledger cannot be read: {path} is a symbolic link.")


def _leave_begin_to_sqlalchemy(connection: Any, _record: object) -> None:  # noqa: ANN401
    # the driver's own BEGIN comes too late: only before the first write
    connection.isolation_level = None


def _prepare_sqlite(connection: Any, record: object) -> None:  # noqa: ANN401
    """Make a new connection durable and leave BEGIN to ``_begin_sqlite``."""
    _leave_begin_to_sqlalchemy(connection, record)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    # SQLite retries a refused lock in no order, so many readers with BEGIN IMMEDIATE would starve the writers
    only_reads = connection.get_execution_options().get(_ONLY_READS, False)
    connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")


def _lock_ledger(connection: sa.Connection) -> None:
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LEDGER_LOCK)))
