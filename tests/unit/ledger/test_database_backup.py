"""The backup that the docs describe: taken while the hub works, and whole when it is restored."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from sqlalchemy import make_url

from spawner.ledger import Ledger
from testing.paths import ROOT
from testing.postgresql import PASSWORD, USER, PostgreSQL

DOCUMENTED = (ROOT / "docs/backup-upgrade.md").read_text()


def test_a_sqlite_ledger_is_backed_up_and_restored(sqlite_url: str, tmp_path: Path) -> None:
    command = re.search(r'python3 -c "(import sqlite3; .*)"', DOCUMENTED)
    assert command is not None
    ledger = Ledger.open(sqlite_url, first_uid=20000)
    alice = ledger.get_or_create_account("alice", "alice")
    with ledger._transaction():  # the hub is in the middle of something
        subprocess.run(
            [sys.executable, "-c", command[1].replace("/data", str(tmp_path))], check=True
        )
    ledger.get_or_create_account("bob", "bob")
    ledger.close()
    shutil.copyfile(tmp_path / "ledger.backup", tmp_path / "ledger.sqlite")
    restored = Ledger.open(sqlite_url, first_uid=20000)
    assert restored.get_or_create_account("alice", "alice") == alice
    assert restored.get_or_create_account("carol", "carol").uid != alice.uid
    restored.close()


def test_a_postgresql_ledger_is_backed_up_and_restored(
    postgresql: PostgreSQL, postgresql_url: str, tmp_path: Path
) -> None:
    """The words are those of the docs; host and folder are the test's."""
    dump, restore = (
        re.findall(r"\S+", line.split("  #")[0])
        for line in re.findall(r"^pg_(?:dump|restore) .*$", DOCUMENTED, re.MULTILINE)
    )

    where = f"postgresql://{USER}@127.0.0.1:{postgresql.port}/{make_url(postgresql_url).database}"

    def run(words: list[str]) -> None:
        adapted = [
            word.replace("postgresql://workbench@HOST/workbench", where).replace(
                "ledger.backup", str(tmp_path / "ledger.backup")
            )
            for word in words
        ]
        program = postgresql.binaries / adapted[0]
        environment = {"PGPASSWORD": PASSWORD}
        subprocess.run([program, *adapted[1:]], check=True, env=environment)

    ledger = Ledger.open(postgresql_url, first_uid=20000)
    alice = ledger.get_or_create_account("alice", "alice")
    run(dump)
    ledger.get_or_create_account("bob", "bob")
    ledger.close()
    run(restore)
    restored = Ledger.open(postgresql_url, first_uid=20000)
    assert restored.get_or_create_account("alice", "alice") == alice
    assert restored.get_or_create_account("carol", "carol").uid != alice.uid
    restored.close()
