"""A ledger becomes this release's whole or not at all, by the hub alone, and no other release's is touched."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from spawner.ledger import Ledger, migrations, tables
from spawner.ledger.database import open_engine, transaction
from spawner.model import Account, SettingsError, Unknown
from testing.paths import ROOT
from testing.postgresql import PostgreSQL

NEXT = """
import os, signal
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{next}", "{present}"
def upgrade():
    op.add_column("accounts", sa.Column("shell", sa.String, nullable=False, server_default="bash"))
    op.execute("UPDATE accounts SET is_home_prepared = (1 = 1)")
    {end}
"""
FAILS = "op.execute('SELECT * FROM no_such_table')"
IS_KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
OPEN = """
import sys
from pathlib import Path
from spawner.ledger import migrations, tables
from spawner.ledger import Ledger
migrations.SCRIPTS, tables.VERSION = Path(sys.argv[2]), sys.argv[3]
Ledger.open(sys.argv[1], first_uid=20000)
"""
PRESENT = tables.VERSION
AFTER = f"{int(PRESENT) + 1:04}"


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return what makes this the next release, whose migration ends with the given line."""

    present = migrations.SCRIPTS

    def release(end: str) -> Path:
        scripts = tmp_path / "100 % later"
        shutil.rmtree(scripts, ignore_errors=True)
        shutil.copytree(present, scripts)
        script = NEXT.format(end=end, next=AFTER, present=PRESENT)
        (scripts / f"versions/v{AFTER}_shell.py").write_text(script)
        monkeypatch.setattr(migrations, "SCRIPTS", scripts)
        monkeypatch.setattr(tables, "VERSION", AFTER)
        return scripts

    return release


def version_of(url: str) -> str | None:
    engine = open_engine(url, may_create=True)
    with transaction(engine) as connection:
        version = migrations.read_version(connection)
    engine.dispose()
    return version


def columns_of(url: str, table: str = "accounts") -> set[str]:
    engine = open_engine(url, may_create=True)
    with transaction(engine) as connection:
        columns = {str(column["name"]) for column in sa.inspect(connection).get_columns(table)}
    engine.dispose()
    return columns


def make_ledger(url: str) -> Account:
    """Make a ledger with one lease in it."""
    ledger = Ledger.open(url, first_uid=20000)
    account = ledger.get_or_create_account("alice", "alice")
    ledger.close()
    return account


# --- the scripts make the tables


def test_the_scripts_end_at_the_version_that_the_tables_name() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.SCRIPTS))
    assert ScriptDirectory.from_config(config).get_current_head() == tables.VERSION


def test_the_scripts_make_the_tables_as_alembic_compares_them(ledger_url: str) -> None:
    make_ledger(ledger_url)
    engine = open_engine(ledger_url, may_create=True)
    options = {"version_table": migrations.VERSION_TABLE}
    with transaction(engine) as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_the_scripts_make_the_tables_to_the_letter_on_sqlite(tmp_path: Path) -> None:
    definitions = []
    for way in ("scripts", "metadata"):
        url = f"sqlite:///{tmp_path}/{way}.sqlite"
        if way == "scripts":
            make_ledger(url)
        engine = open_engine(url, may_create=True)
        with transaction(engine) as connection:
            tables.metadata.create_all(connection)
            rows = connection.execute(sa.text("SELECT name, sql FROM sqlite_master"))
            definitions.append({row.name: " ".join((row.sql or "").split()) for row in rows})
        engine.dispose()
    by_scripts, by_metadata = definitions
    by_scripts.pop(migrations.VERSION_TABLE)
    by_scripts.pop(f"sqlite_autoindex_{migrations.VERSION_TABLE}_1")
    assert by_scripts == by_metadata


def test_the_scripts_make_the_tables_to_the_letter_on_postgresql(postgresql: PostgreSQL) -> None:
    dumps = []
    for way in ("scripts", "metadata"):
        with postgresql.database() as name:
            if way == "scripts":
                make_ledger(postgresql.url(name))
            engine = sa.create_engine(postgresql.url(name))
            with engine.begin() as connection:
                connection.execute(sa.text(f"DROP TABLE IF EXISTS {migrations.VERSION_TABLE}"))
                tables.metadata.create_all(connection)
            engine.dispose()
            dumps.append(postgresql.dump(name))
    assert "CREATE TABLE public.leases" in dumps[0]
    assert dumps[0] == dumps[1]


# --- the next release


def test_the_next_release_keeps_what_is_there(
    ledger_url: str, later: Callable[[str], Path]
) -> None:
    account = make_ledger(ledger_url)
    later("")
    ledger = Ledger.open(ledger_url, first_uid=20000)
    assert ledger.account(account.uid) == Account(account.uid, "alice", is_home_prepared=True)
    ledger.close()
    assert version_of(ledger_url) == AFTER
    assert "shell" in columns_of(ledger_url)


def test_before_a_sqlite_file_changes_it_is_copied(
    sqlite_url: str, later: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    account = make_ledger(sqlite_url)
    make_ledger(sqlite_url)
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    assert not list(path.parent.glob("*.before-*")), "nothing changed"
    later("")
    copy = path.with_name(f"ledger.sqlite.before-{AFTER}")
    copy.write_text("the copy of an attempt that failed")
    Ledger.open(sqlite_url, first_uid=20000).close()
    monkeypatch.undo()
    before = Ledger.open_existing(f"sqlite:///{copy}", first_uid=20000)
    assert before.account(account.uid) == account
    before.close()


@pytest.mark.parametrize("end", [FAILS, "raise RuntimeError"])
def test_a_migration_that_fails_changes_nothing_and_may_be_tried_again(
    ledger_url: str, later: Callable[[str], Path], end: str
) -> None:
    make_ledger(ledger_url)
    later(end)
    with pytest.raises((Unknown, RuntimeError)):
        Ledger.open(ledger_url, first_uid=20000)
    assert_unchanged(ledger_url)
    later("")
    Ledger.open(ledger_url, first_uid=20000).close()
    assert version_of(ledger_url) == AFTER


def test_a_migration_that_is_killed_changes_nothing(
    ledger_url: str, later: Callable[[str], Path]
) -> None:
    make_ledger(ledger_url)
    scripts = later(IS_KILLED)
    killed = subprocess.run(
        [sys.executable, "-c", OPEN, ledger_url, scripts, AFTER], cwd=ROOT, check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    assert_unchanged(ledger_url)


def test_a_first_start_that_is_killed_leaves_no_half_ledger(
    ledger_url: str, later: Callable[[str], Path]
) -> None:
    scripts = later(IS_KILLED)
    killed = subprocess.run(
        [sys.executable, "-c", OPEN, ledger_url, scripts, AFTER], cwd=ROOT, check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    assert version_of(ledger_url) is None
    with pytest.raises(Unknown, match="start the hub"):
        Ledger.open_existing(ledger_url, first_uid=20000)


def assert_unchanged(url: str) -> None:
    assert version_of(url) == PRESENT
    assert "shell" not in columns_of(url)
    engine = open_engine(url, may_create=True)
    with transaction(engine) as connection:
        rows = connection.execute(sa.select(tables.accounts)).all()
    engine.dispose()
    assert [(row.user, row.is_home_prepared) for row in rows] == [("alice", False)]


# --- another release's ledger


def test_the_ledger_of_a_later_release_is_refused_and_left_alone(
    ledger_url: str, later: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_ledger(ledger_url)
    later("")
    Ledger.open(ledger_url, first_uid=20000).close()
    monkeypatch.undo()
    with pytest.raises(
        SettingsError, match=rf"^The ledger is of version {AFTER}.*: install [^\n]+\.$"
    ):
        Ledger.open(ledger_url, first_uid=20000)
    with pytest.raises(Unknown, match=f"version {AFTER}, but this release reads {PRESENT}: start"):
        Ledger.open_existing(ledger_url, first_uid=20000)
    assert version_of(ledger_url) == AFTER
    assert "shell" in columns_of(ledger_url)


def test_who_only_reads_migrates_nothing(ledger_url: str, later: Callable[[str], Path]) -> None:
    make_ledger(ledger_url)
    later("")
    with pytest.raises(Unknown, match=f"version {PRESENT}, but this release reads {AFTER}: start"):
        Ledger.open_existing(ledger_url, first_uid=20000)
    assert_unchanged(ledger_url)


def test_the_hub_s_own_database_may_be_the_same(postgresql_url: str) -> None:
    """JupyterHub keeps its version in alembic's usual table."""
    engine = open_engine(postgresql_url, may_create=True)
    with transaction(engine) as connection:
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('4621fec11365')"))
    make_ledger(postgresql_url)
    with transaction(engine) as connection:
        found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    engine.dispose()
    assert found == "4621fec11365"
