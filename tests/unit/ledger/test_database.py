"""A database that does not answer: the ledger raises Unknown, concludes nothing and shows no password."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from spawner.ledger import Ledger, tables
from spawner.ledger.database import LEDGER_LOCK, open_engine, read_transaction, transaction
from spawner.model import Heartbeat, LeaseState, Refused, Unknown
from testing.eventually import eventually_sync
from testing.factories import GPU_0, GPU_1, make_lease, make_request
from testing.ports import free_port
from testing.postgresql import PASSWORD, PostgreSQL
from tests.unit.ledger_helpers import ALICE, QUOTA, advance, enqueue, grant

HEARTBEAT = Heartbeat("this boot", offset_seconds=0.0, at=1.0)


@contextmanager
def held(url: str) -> Iterator[None]:
    """Hold the database as a foreign transaction does."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        lock = sqlite3.connect(str(parsed.database), isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        yield
        lock.close()
    else:
        with psycopg.connect(parsed.set(drivername="postgresql").render_as_string(False)) as other:
            other.execute("SELECT pg_advisory_lock(%s)", [LEDGER_LOCK])
            yield


def name_of(url: str) -> str:
    return sa.make_url(url).database or ""


def end_connections(server: PostgreSQL, url: str) -> None:
    ending = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s"
    server.execute(ending, name_of(url))


def test_a_locked_database_is_unknown_not_an_answer(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger.open(ledger_url, first_uid=20000).close()  # migrations may take longer
    monkeypatch.setattr("spawner.ledger.database.BUSY_TIMEOUT_SECONDS", 0.05)
    ledger = Ledger.open(ledger_url, first_uid=20000)
    with held(ledger_url), pytest.raises(Unknown, match=r"locked|lock timeout"):
        ledger.record_heartbeat(HEARTBEAT)
    assert ledger.heartbeat() is None
    ledger.close()


def test_who_only_reads_waits_for_no_one_who_writes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    ledger = Ledger.open(url, first_uid=20000)
    ledger.record_heartbeat(HEARTBEAT)
    with held(url):
        assert ledger.heartbeat() == HEARTBEAT
    with read_transaction(ledger._engine) as reader:
        before = reader.execute(sa.select(tables.heartbeat)).all()
        ledger.record_heartbeat(replace(HEARTBEAT, at=2.0))
        assert reader.execute(sa.select(tables.heartbeat)).all() == before
    ledger.close()


def test_a_transaction_ends_whatever_is_raised_in_it(ledger: Ledger) -> None:
    def fail(*_: object) -> Refused:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ledger.extend(fail, ALICE, quota=QUOTA, now=1.0)
    assert ledger.live_leases() == ()


def test_when_all_connections_are_in_use_nothing_is_known(ledger: Ledger) -> None:
    pool = ledger._engine.pool
    assert isinstance(pool, sa.QueuePool)
    pool._timeout = 0.05
    with ExitStack() as stack:
        with pytest.raises(sa.exc.TimeoutError):
            while True:
                stack.enter_context(ledger._engine.connect())
        with pytest.raises(Unknown, match="all its connections are in use"):
            ledger.live_leases()
    assert ledger.live_leases() == ()


def test_a_file_that_is_no_database_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database" * 1000)
    for open_ledger in (Ledger.open, Ledger.open_existing):
        with pytest.raises(Unknown, match="not a database"):
            open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite", first_uid=20000)


def test_who_only_reads_never_makes_a_file(sqlite_url: str) -> None:
    path = Path(name_of(sqlite_url))
    with pytest.raises(Unknown, match=r"There is no ledger at .* yet: start the hub"):
        Ledger.open_existing(sqlite_url, first_uid=20000)
    Ledger.open(sqlite_url, first_uid=20000).close()
    reader = Ledger.open_existing(sqlite_url, first_uid=20000)
    reader.close()
    path.rename(path.with_suffix(".away"))
    with pytest.raises(Unknown, match="unable to open"):
        reader.live_leases()
    assert not path.exists()


def test_a_read_only_ledger_reads_what_the_hub_writes_and_writes_nothing(ledger_url: str) -> None:
    hub = Ledger.open(ledger_url, first_uid=20000)
    reader = Ledger.open_existing(ledger_url, first_uid=20000, read_only=True)
    account = hub.get_or_create_account("alice", "alice")
    assert reader.account(account.uid) == account
    with pytest.raises(Unknown, match=r"read-?only"):
        reader.mark_home_prepared(account.uid)
    assert reader.account(account.uid) == account
    for ledger in (hub, reader):
        ledger.close()


@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal"])
def test_a_read_only_ledger_follows_no_link(sqlite_url: str, end: str) -> None:
    Ledger.open(sqlite_url, first_uid=20000).close()
    link = Path(name_of(sqlite_url) + end)
    target = link.with_name("elsewhere")
    if link.exists():
        link.rename(target)
    link.symlink_to(target)
    with pytest.raises(Unknown, match="is a symbolic link"):
        Ledger.open_existing(sqlite_url, first_uid=20000, read_only=True)


# --- PostgreSQL only


def test_a_lost_connection_is_opened_anew(postgresql: PostgreSQL, postgresql_url: str) -> None:
    ledger = Ledger.open(postgresql_url, first_uid=20000)
    account = ledger.get_or_create_account("alice", "alice")
    end_connections(postgresql, postgresql_url)
    assert ledger.get_or_create_account("alice", "alice") == account
    ledger.close()


def test_a_connection_lost_in_the_middle_is_unknown_and_changed_nothing(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    ledger = Ledger.open(postgresql_url, first_uid=20000)
    lease = enqueue(ledger, "alice")

    def plan(*_: object) -> dict[str, tuple[str, ...]]:
        end_connections(postgresql, postgresql_url)
        return {lease.id: (GPU_0,)}

    with pytest.raises(Unknown):
        ledger.advance(plan, now=6.0)
    assert ledger.live_leases() == (lease,)
    assert advance(ledger)[1] == {lease.id: (GPU_0,)}
    ledger.close()


def test_a_server_that_is_away_is_unknown_until_it_is_back(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    ledger = Ledger.open(postgresql_url, first_uid=20000)
    lease = grant(ledger, "alice")
    postgresql.stop()
    try:
        for call in (ledger.live_leases, lambda: ledger.move(lease, LeaseState.RUNNING, now=7.0)):
            with pytest.raises(Unknown, match=r"^The ledger cannot be reached: [^\n]+\.$"):
                call()
        with pytest.raises(Unknown):
            Ledger.open_existing(postgresql_url, first_uid=20000)
    finally:
        postgresql.start()
    assert ledger.live_leases() == (lease,)
    ledger.close()


def test_a_hub_that_stalls_in_a_transaction_does_not_stop_the_others_for_ever(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.ledger.database.BUSY_TIMEOUT_SECONDS", 1)
    engine = open_engine(postgresql_url, may_create=True)
    ledger = Ledger.open(postgresql_url, first_uid=20000)

    def is_served() -> bool:
        try:
            return ledger.live_leases() == ()
        except Unknown:
            return False

    with pytest.raises(Unknown, match="terminating connection"), transaction(engine) as stalled:
        assert not is_served()
        eventually_sync(is_served)
        stalled.execute(sa.text("SELECT 1"))
    engine.dispose()
    ledger.close()


def test_what_the_database_cannot_keep_is_unknown(postgresql_url: str) -> None:
    ledger = Ledger.open(postgresql_url, first_uid=20000)
    with pytest.raises(Unknown, match="NUL"):
        ledger.get_or_create_account("a\0b", "a\0b")
    with pytest.raises(Unknown, match="too long"):
        ledger.adopt(make_lease(id="f" * 17))
    assert ledger.live_leases() == ()
    ledger.close()


def test_the_database_s_own_settings_weaken_nothing(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    name = name_of(postgresql_url)
    for setting in (
        "default_transaction_isolation = 'repeatable read'",
        "synchronous_commit = off",
    ):
        postgresql.execute(f"ALTER DATABASE {name} SET {setting}")
    one, other = (Ledger.open(postgresql_url, first_uid=20000) for _ in range(2))

    def request_and_advance(i: int) -> list[tuple[str, ...]]:
        hub = (one, other)[i % 2]
        enqueue(hub, f"user{i}")
        return list(advance(hub)[1].values())

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(request_and_advance, range(40)))
    assert sorted(held for answer in answers for held in answer) == [(GPU_0,), (GPU_1,)]
    with transaction(one._engine) as connection:
        assert connection.execute(sa.text("SHOW synchronous_commit")).scalar() == "on"
    one.close()
    other.close()


def test_what_the_url_asks_of_its_connections_is_kept(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    postgresql.execute(
        "CREATE SCHEMA team AUTHORIZATION workbench", database=name_of(postgresql_url)
    )
    ledger = Ledger.open(f"{postgresql_url}?options=-csearch_path%3Dteam", first_uid=20000)
    ledger.get_or_create_account("alice", "alice")
    found = postgresql.execute('SELECT "user" FROM team.accounts', database=name_of(postgresql_url))
    assert found == [("alice",)]
    ledger.close()


@pytest.mark.parametrize("trouble", ["password", "host", "port", "database"])
def test_a_database_that_cannot_be_reached_is_named_without_its_password(
    postgresql: PostgreSQL, trouble: str
) -> None:
    url = {
        "password": postgresql.url("postgres", password="wrong-and-secret"),
        "host": postgresql.url("postgres").replace("127.0.0.1", "nowhere.invalid"),
        "port": postgresql.url("postgres").replace(str(postgresql.port), str(free_port())),
        "database": postgresql.url("none"),
    }[trouble]
    openings: list[Callable[..., Ledger]] = [Ledger.open, Ledger.open_existing]
    for open_ledger in openings:
        with pytest.raises(Unknown, match=r"^The ledger cannot be reached: [^\n]+\.$") as error:
            open_ledger(url, first_uid=20000)
        for secret in (PASSWORD, "wrong-and-secret"):
            assert secret not in str(error.value)


def test_an_unwritable_database_is_unknown(postgresql: PostgreSQL, postgresql_url: str) -> None:
    postgresql.execute(f"ALTER DATABASE {name_of(postgresql_url)} OWNER TO postgres")
    with pytest.raises(Unknown, match="permission denied"):
        Ledger.open(postgresql_url, first_uid=20000)


def test_names_are_kept_as_they_were_typed(ledger: Ledger) -> None:
    for user in ("ada", "Ada", "adá", "ada\u0301", "ada ", "阿达", "'; --"):
        lease = ledger.admit(make_request(user, 0), lambda *_: None, quota=QUOTA, now=1.0)
        assert not isinstance(lease, Refused)
        assert ledger.last_lease(user, "") == lease
        assert ledger.account(lease.uid) == ledger.get_or_create_account(user, user)
    assert len({lease.uid for lease in ledger.live_leases()}) == 7
