"""Migrations: brings the tables of a ledger to the version of this release, with alembic.

Only the hub migrates, in one transaction; every other reader accepts only this release's version.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from spawner.ledger import tables
from spawner.ledger.database import describe, missing_ledger, transaction
from spawner.model import SettingsError, Unknown

SCRIPTS = Path(__file__).parent
VERSION_TABLE = "ledger_version"


def migrate(engine: sa.Engine) -> None:
    """Migrate the ledger to ``tables.VERSION``; a SQLite file is first copied into its folder.

    Raises SettingsError for a ledger of a later release, Unknown; the ledger is then unchanged.
    """
    with transaction(engine) as connection:
        version = read_version(connection)
    if version == tables.VERSION:
        return
    config = Config(attributes={"version_table": VERSION_TABLE})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    if version is not None:
        _require_known(version, config)
        _keep_copy(engine.url)
    with transaction(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, tables.VERSION)


def require_current(connection: sa.Connection, url: str) -> None:
    """Raise Unknown unless the ledger at ``url`` has the tables of this release."""
    version = read_version(connection)
    if version is None:
        raise missing_ledger(url)
    if version != tables.VERSION:
        raise Unknown(
            f"The ledger at {describe(url)} is of version {version}, but this release reads "
            f"{tables.VERSION}: start the hub of this release."
        )


def read_version(connection: sa.Connection) -> str | None:
    """Return the version of the ledger's tables, None if there are none."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    number: sa.ColumnClause[str] = sa.column("version_num", sa.String)
    return connection.execute(sa.select(number).select_from(sa.table(VERSION_TABLE))).scalar()


def _require_known(version: str, config: Config) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version not in known:
        raise SettingsError(
            f"The ledger is of version {version}, but this release knows none after {tables.VERSION}: "
            "install the release that wrote it, or restore a backup made before that."
        )


def _keep_copy(url: sa.URL) -> None:
    """Copy a SQLite file before it changes, so that an admin can return to the previous release."""
    if url.get_backend_name() != "sqlite" or url.database is None:
        return
    copy = Path(f"{url.database}.before-{tables.VERSION}")
    try:
        copy.unlink(missing_ok=True)
        with closing(sqlite3.connect(url.database)) as ledger:
            ledger.execute("VACUUM INTO ?", (str(copy),))
    except (OSError, sqlite3.Error) as error:
        raise Unknown(f"The ledger cannot be copied to {copy}: {error}.") from error
