"""The auditor only looks: what it cannot read is unknown, never clean, and nothing is written."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from spawner.audit import probes
from spawner.audit.probes import look
from spawner.audit.rules import judge
from spawner.model import Unknown
from tests.fakes.docker_engine import Fault
from tests.ports import free_port
from tests.unit.audit_town import AuditTown


@pytest.mark.parametrize("operation", ["list", "inspect", "volume"])
@pytest.mark.parametrize(
    "fault", [Fault.ERROR, Fault.GARBAGE, Fault.WRONG_SHAPE, Fault.PAGE_NOT_FOUND, Fault.DROP]
)
async def test_what_docker_does_not_say_is_unknown(
    town: AuditTown, operation: str, fault: Fault
) -> None:
    town.house.engine.plan(operation, *[fault] * 4)
    with pytest.raises(Unknown):
        await town.look()


async def test_a_database_that_is_not_there_is_named(town: AuditTown) -> None:
    missing = f"sqlite:///{town.folder}/none.sqlite"
    places = replace(town.places, ledger_url=missing)
    with pytest.raises(Unknown, match=f"There is no database at {town.folder}/none.sqlite"):
        await asyncio.to_thread(look, places)
    assert not (town.folder / "none.sqlite").exists()


async def test_a_server_that_is_not_there_is_unknown_and_its_password_not_told(
    town: AuditTown,
) -> None:
    url = f"postgresql+psycopg://workbench:not-to-be-shown@127.0.0.1:{free_port()}/workbench"
    with pytest.raises(Unknown, match=r"^A database cannot be read: [^\n]+\.$") as error:
        await asyncio.to_thread(look, replace(town.places, ledger_url=url))
    assert "not-to-be-shown" not in str(error.value)


def no_version(town: AuditTown) -> None:
    town.write("DROP TABLE ledger_version")


def no_table(town: AuditTown) -> None:
    town.write("DROP TABLE claims")


def no_column(town: AuditTown) -> None:
    town.write("ALTER TABLE leases DROP COLUMN epoch")


def other_release(town: AuditTown) -> None:
    town.write("UPDATE ledger_version SET version_num = '0000'")


def strange_state(town: AuditTown) -> None:
    town.write("UPDATE leases SET state = 'dozing'")


def no_hub_table(town: AuditTown) -> None:
    (town.folder / "jupyterhub.sqlite").write_bytes(b"")


def broken_hub_database(town: AuditTown) -> None:
    (town.folder / "jupyterhub.sqlite").write_bytes(b"not a database" * 1000)


def no_broker(town: AuditTown) -> None:
    town.house.socket_path.unlink()


UNREADABLE = [
    no_version,
    no_table,
    no_column,
    other_release,
    strange_state,
    no_hub_table,
    broken_hub_database,
    no_broker,
]


@pytest.mark.parametrize("hide", UNREADABLE)
async def test_what_cannot_be_read_is_unknown(
    town: AuditTown, hide: Callable[[AuditTown], None]
) -> None:
    hide(town)
    before = sorted(path.name for path in town.folder.iterdir())
    with pytest.raises(Unknown):
        await town.look()
    assert sorted(path.name for path in town.folder.iterdir()) == before


async def test_looking_waits_for_no_writer_and_writes_nothing(town: AuditTown) -> None:
    with town.house.ledger._transaction():  # a hub in the middle of one
        assert judge(await town.look()) == ()


async def test_a_database_that_is_looked_at_cannot_be_written(town: AuditTown) -> None:
    with (
        pytest.raises(sa.exc.DBAPIError, match=r"readonly|read-only"),
        looks._database(town.places.ledger_url) as ledger,
    ):
        ledger.execute(sa.text("DELETE FROM claims"))
