"""A real PostgreSQL server for tests: on a free port, in a folder of its own, gone with the tests.

Each test gets an empty database; users log in with a password, as on a real one.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from testing.eventually import eventually_sync
from testing.ports import free_port

BINARIES = Path("/usr/lib/postgresql")
OWNER, USER, PASSWORD = "postgres", "workbench", "not-to-be-shown"
START_SECONDS = 60.0


class PostgreSQL:
    """A server that runs; ``url`` of a database is what an admin would set."""

    def __init__(self, folder: Path, binaries: Path, log: Path) -> None:
        self.binaries = binaries
        self.folder = folder
        self.port = free_port()
        self._log = log
        self._number = count()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str, password: str = PASSWORD) -> str:
        """Return the address of one database, as ``WORKBENCH_LEDGER_URL`` takes it."""
        return f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def execute(
        self, statement: str, *values: object, database: str = "postgres"
    ) -> list[tuple[object, ...]]:
        """Run one statement, with ``%s`` for each value, as the server's owner and past the product."""
        where = f"host={self.folder} port={self.port} user={OWNER} dbname={database}"
        with psycopg.connect(where, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def dump(self, database: str) -> str:
        """Return the definition of everything in the database, without comments."""
        done = subprocess.run(
            [
                self.binaries / "pg_dump",
                *("-h", self.folder, "-p", str(self.port), "-U", OWNER, "--schema-only", database),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        is_content = re.compile(r"(?!--|\\).")  # psql's own commands have a random key
        return "\n".join(line for line in done.stdout.splitlines() if is_content.match(line))

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database and yield its name; it is removed with every open connection."""
        name = f"test_{next(self._number)}"
        self.execute(f"CREATE DATABASE {name} OWNER {USER}")
        try:
            yield name
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def start(self) -> None:
        """Start the server on the data that is there and wait until it answers."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "max_connections": 200,
        }
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *as_owner(),
                    *("setpriv", "--pdeathsig=INT"),  # should the tests be killed
                    self.binaries / "postgres",
                    *("-D", self.folder / "data"),
                    *flags,
                ],
                stdout=log,
                stderr=log,
            )

        def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self._log.read_text()
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                return False
            return True

        eventually_sync(answers, "the server accepts connections", seconds=START_SECONDS)

    def stop(self) -> None:
        """End every connection and the server; its data stays."""
        assert self._process is not None
        self._process.send_signal(2)
        self._process.wait(START_SECONDS)


def as_owner() -> list[str]:
    """Return what to put before a command, because the server refuses to run as root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--init-groups", "--"]


def locate_binaries() -> Path:
    """Return the folder of the newest server that is installed."""
    found = sorted(
        (folder for folder in BINARIES.glob("*/bin") if (folder / "initdb").exists()),
        key=lambda folder: int(folder.parent.name),
    )
    assert found, "There is no PostgreSQL: install the package postgresql (scripts/test does)."
    return found[-1]


@contextmanager
def running_server(log: Path) -> Iterator[PostgreSQL]:
    """Make a server, run it, and remove it with all its data."""
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))  # pytest's own folders are root's alone
    try:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(OWNER)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        server = PostgreSQL(folder, locate_binaries(), log)
        subprocess.run(
            [
                *as_owner(),
                server.binaries / "initdb",
                *("-D", folder / "data", "-U", OWNER, "-E", "UTF8", "--locale=C.UTF-8"),
                *("--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"),
            ],
            check=True,
            capture_output=True,
        )
        server.start()
        try:
            server.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """The one server of all tests."""
    with running_server(tmp_path_factory.mktemp("postgresql") / "log") as server:
        yield server
