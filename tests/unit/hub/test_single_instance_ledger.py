"""One hub at a time on a ledger on PostgreSQL, whatever happens to the connection that holds it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from jupyterhub.app import JupyterHub
from sqlalchemy import make_url

from spawner.hub.single_instance import HUB_LOCK, LedgerLock, open_ledger
from spawner.model import SettingsError, Unknown
from spawner.settings import Settings
from testing.eventually import eventually_sync
from testing.paths import ROOT
from testing.postgresql import PASSWORD, PostgreSQL

HUB = """
import sys
from jupyterhub.app import JupyterHub
from spawner.hub.single_instance import open_ledger
from spawner.model import SettingsError, Unknown
from spawner.settings import Settings
JupyterHub.instance()
try:
    ledger = open_ledger(Settings(ledger_url=sys.argv[1]))
except SettingsError as error:
    sys.exit(str(error))
print("held", flush=True)
for user in sys.stdin:
    try:
        ledger.get_or_create_account(user.strip(), user.strip())
        print("written", flush=True)
    except Unknown:
        print("unknown", flush=True)
"""


class Hub:
    """A process that has the ledger of a hub, and writes the users of stdin into it."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HUB, url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def write(self, user: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{user}\n")
        self.process.stdin.flush()

    def request(self, user: str) -> str:
        self.write(user)
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def running_hub(url: str) -> Iterator[Hub]:
    hub = Hub(url)
    try:
        yield hub
    finally:
        hub.process.kill()
        hub.process.communicate()


def database(url: str) -> str:
    return make_url(url).database or ""


def holders(server: PostgreSQL, url: str) -> list[object]:
    """Return the process ids of the connections that have the hub's lock."""
    statement = (
        "SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
        "WHERE locktype = 'advisory' AND granted AND datname = %s AND classid = %s AND objid = %s"
    )
    values = (database(url), HUB_LOCK >> 32, HUB_LOCK & 0xFFFFFFFF)
    return [row[0] for row in server.execute(statement, *values)]


def cut(server: PostgreSQL, url: str) -> None:
    """End the connection that holds the ledger, as a broken network does."""
    (pid,) = holders(server, url)
    server.execute("SELECT pg_terminate_backend(%s, 10000)", pid)
    assert holders(server, url) == []


def users(server: PostgreSQL, url: str) -> list[object]:
    rows = server.execute('SELECT "user" FROM accounts ORDER BY number', database=database(url))
    return [row[0] for row in rows]


def is_taken(url: str) -> bool:
    try:
        LedgerLock(url).close()
    except SettingsError:
        return True
    return False


def test_the_second_hub_leaves_with_one_sentence_and_changes_nothing(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    hold = LedgerLock(postgresql_url)  # of a hub that has not made its tables yet
    second = subprocess.run(
        [sys.executable, "-c", HUB, postgresql_url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    hold.close()
    assert second.returncode != 0
    assert second.stdout == ""
    name = database(postgresql_url)
    assert second.stderr.startswith(f"Another hub already uses the ledger {name} on 127.0.0.1")
    assert second.stderr.count("\n") == 1
    assert PASSWORD not in second.stderr
    tables = "SELECT * FROM pg_tables WHERE schemaname = 'public'"
    assert postgresql.execute(tables, database=name) == []


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_hold_ends_with_its_process(postgresql_url: str, end: signal.Signals) -> None:
    with running_hub(postgresql_url) as first:
        assert is_taken(postgresql_url)
        first.process.send_signal(end)
        eventually_sync(lambda: not is_taken(postgresql_url))


def test_a_stopped_hub_still_holds(postgresql_url: str) -> None:
    with running_hub(postgresql_url) as first:
        first.process.send_signal(signal.SIGSTOP)
        assert is_taken(postgresql_url)


def test_a_hold_that_was_lost_is_taken_anew(postgresql: PostgreSQL, postgresql_url: str) -> None:
    with running_hub(postgresql_url) as hub:
        cut(postgresql, postgresql_url)
        assert hub.request("alice") == "written"
        assert len(holders(postgresql, postgresql_url)) == 1
        assert is_taken(postgresql_url)


def test_a_hub_whose_ledger_another_one_took_ends_and_writes_nothing(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    with running_hub(postgresql_url) as first:
        assert first.request("alice") == "written"
        first.process.send_signal(signal.SIGSTOP)
        cut(postgresql, postgresql_url)
        with running_hub(postgresql_url) as second:
            first.write("mallory")
            first.process.send_signal(signal.SIGCONT)
            out, err = first.process.communicate(timeout=60)
            assert (first.process.returncode, out) == (1, "")
            assert "Another hub already uses the ledger" in err
            assert second.request("bob") == "written"
        assert users(postgresql, postgresql_url) == ["alice", "bob"]


def test_a_server_that_was_restarted_is_held_anew(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    with running_hub(postgresql_url) as hub:
        assert hub.request("alice") == "written"
        postgresql.stop()
        try:
            assert hub.request("bob") == "unknown"
            assert hub.request("carol") == "unknown"
        finally:
            postgresql.start()
        assert hub.request("dave") == "written"
        assert is_taken(postgresql_url)
        assert users(postgresql, postgresql_url) == ["alice", "dave"]


@pytest.fixture(params=["sqlite_url", "postgresql_url"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return Settings(ledger_url=request.getfixturevalue(request.param))


def test_a_subcommand_takes_the_ledger_as_it_is(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_hub(is_hub: bool) -> None:
        monkeypatch.setattr(JupyterHub, "initialized", classmethod(lambda _: is_hub))

    be_hub(False)
    with pytest.raises(Unknown, match="start the hub"):
        open_ledger(settings)
    be_hub(True)
    hub = open_ledger(settings)
    account = hub.get_or_create_account("alice", "alice")
    be_hub(False)
    beside = open_ledger(settings)
    assert beside.account(account.uid) == account
    beside.close()
    hub.close()
