"""The ledger's database, SQLite or PostgreSQL, as transactions that come strictly one after the other.

A database that does not answer is ``Unknown``, and no sentence about it holds its password.
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
"""Held by every transaction on PostgreSQL, so that none comes between another's reading and writing."""
_SILENCE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_ONLY_READS = "workbench_only_reads"

Guard = Callable[[sa.Connection], None]
"""Called at the beginning of every transaction, before it has read anything; what it raises ends that transaction."""


def open_engine(url: str, *, may_create: bool, guard: Guard | None = None) -> sa.Engine:
    """Return an engine whose transactions are serial; nothing is connected yet.

    Without ``may_create`` a SQLite file has to be there already, else Unknown is raised.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = _open_sqlite(parsed, may_create)
    else:
        engine = open_postgresql(url, lock_seconds=BUSY_TIMEOUT_SECONDS)
        sa.event.listen(engine, "begin", _lock_ledger)
    if guard is not None:
        sa.event.listen(engine, "begin", guard)
    return engine


def open_postgresql(url: str, *, lock_seconds: float, **engine_options: Any) -> sa.Engine:  # noqa: ANN401
    """Return an engine of durable connections that wait ``lock_seconds`` for a lock.

    A host that is gone without a word keeps no lock: server and client each notice within half a minute.
    """
    parsed = sa.make_url(url)
    options = {
        "lock_timeout": int(lock_seconds * 1000),
        "idle_in_transaction_session_timeout": 3 * BUSY_TIMEOUT_SECONDS * 1000,
        "synchronous_commit": "on",
        **{f"tcp_{name}": value for name, value in _SILENCE.items()},
    }
    own = " ".join(f"-c {name}={value}" for name, value in options.items())
    return sa.create_engine(
        parsed,
        # a snapshot taken before the lock was got would not show what the one before wrote
        **{"isolation_level": "READ COMMITTED", "pool_pre_ping": True, **engine_options},
        connect_args={
            **_SILENCE,
            "connect_timeout": BUSY_TIMEOUT_SECONDS,
            "options": f"{parsed.query.get('options', '')} {own}",
        },
    )


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Run one transaction, committed at the end; raises Unknown when the database does not answer.

    Then nothing is known of its outcome: the connection may have been lost after the commit.
    """
    with database_errors_as_unknown(), engine.begin() as connection:
        yield connection


@contextmanager
def read_transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Run one transaction that only reads; raises Unknown when the database does not answer.

    It sees one moment. On SQLite it waits for no other and keeps none waiting.
    """
    with transaction(engine.execution_options(**{_ONLY_READS: True})) as connection:
        yield connection


@contextmanager
def database_errors_as_unknown() -> Iterator[None]:
    """Turn every failure of the database into Unknown, but the answer that something is there already."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise
    except sa.exc.DBAPIError as error:
        sentence = " ".join(str(error.orig).split()).rstrip(".")
        raise Unknown(f"The ledger cannot be reached: {sentence}.") from error
    except sa.exc.TimeoutError as error:
        raise Unknown("The ledger cannot be reached: too many wait for it.") from error


def describe(url: str | sa.URL) -> str:
    """Return where the database is, for a sentence."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return str(parsed.database)
    return f"{parsed.database} on {parsed.host or 'this host'}"


def missing_ledger(url: str | sa.URL) -> Unknown:
    """Return what to say where the hub has made no ledger yet."""
    return Unknown(f"There is no ledger at {describe(url)} yet: start the hub.")


def _open_sqlite(url: sa.URL, may_create: bool) -> sa.Engine:
    if not may_create:
        file = Path(url.database or "").absolute()
        if not file.is_file():
            raise missing_ledger(url)
        # should it be taken away later, a new connection makes none in its place
        url = url.set(database=file.as_uri(), query={"mode": "rw", "uri": "true"})
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401
    """Make a new connection durable, and leave the beginning of transactions to ``_begin_sqlite``."""
    # the driver itself would begin them too late
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    # who is refused this lock sleeps and tries again, in no order: a crowd of readers would starve those who write
    only_reads = connection.get_execution_options().get(_ONLY_READS, False)
    connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")


def _lock_ledger(connection: sa.Connection) -> None:
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LEDGER_LOCK)))
