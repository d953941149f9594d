"""The auditor only looks: what it cannot read is unknown, never clean, and nothing is written."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from spawner.audit import probes
from spawner.audit.probes import probe
from spawner.audit.rules import check_rules
from spawner.model import Unknown
from testing.fakes.docker_faults import Fault
from testing.ports import free_port
from tests.unit.audit_env import AuditEnvironment


@pytest.mark.parametrize("operation", ["list", "inspect", "volume"])
@pytest.mark.parametrize(
    "fault", [Fault.ERROR, Fault.GARBAGE, Fault.WRONG_SHAPE, Fault.PAGE_NOT_FOUND, Fault.DROP]
)
async def test_what_docker_does_not_state_is_unknown(
    audit_env: AuditEnvironment, operation: str, fault: Fault
) -> None:
    audit_env.broker_env.engine.plan(operation, *[fault] * 4)
    with pytest.raises(Unknown):
        await audit_env.probe()


async def test_a_database_that_is_not_there_is_named(audit_env: AuditEnvironment) -> None:
    missing = f"sqlite:///{audit_env.folder}/none.sqlite"
    places = replace(audit_env.places, ledger_url=missing)
    with pytest.raises(Unknown, match=f"There is no database at {audit_env.folder}/none.sqlite"):
        await asyncio.to_thread(probe, places)
    assert not (audit_env.folder / "none.sqlite").exists()


async def test_a_server_that_is_not_there_is_unknown_and_its_password_not_shown(
    audit_env: AuditEnvironment,
) -> None:
    url = f"postgresql+psycopg://workbench:not-to-be-shown@127.0.0.1:{free_port()}/workbench"
    with pytest.raises(Unknown, match=r"^A database cannot be read: [^\n]+\.$") as error:
        await asyncio.to_thread(probe, replace(audit_env.places, ledger_url=url))
    assert "not-to-be-shown" not in str(error.value)


def no_version(audit_env: AuditEnvironment) -> None:
    audit_env.write("DROP TABLE ledger_version")


def no_table(audit_env: AuditEnvironment) -> None:
    audit_env.write("DROP TABLE claims")


def no_column(audit_env: AuditEnvironment) -> None:
    audit_env.write("ALTER TABLE leases DROP COLUMN epoch")


def other_release(audit_env: AuditEnvironment) -> None:
    audit_env.write("UPDATE ledger_version SET version_num = '0000'")


def strange_state(audit_env: AuditEnvironment) -> None:
    audit_env.write("UPDATE leases SET state = 'dozing'")


def no_hub_table(audit_env: AuditEnvironment) -> None:
    (audit_env.folder / "jupyterhub.sqlite").write_bytes(b"")


def broken_hub_database(audit_env: AuditEnvironment) -> None:
    (audit_env.folder / "jupyterhub.sqlite").write_bytes(b"not a database" * 1000)


def no_broker(audit_env: AuditEnvironment) -> None:
    audit_env.broker_env.socket_path.unlink()


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
    audit_env: AuditEnvironment, hide: Callable[[AuditEnvironment], None]
) -> None:
    hide(audit_env)
    before = sorted(path.name for path in audit_env.folder.iterdir())
    with pytest.raises(Unknown):
        await audit_env.probe()
    assert sorted(path.name for path in audit_env.folder.iterdir()) == before


async def test_looking_waits_for_no_writer_and_writes_nothing(audit_env: AuditEnvironment) -> None:
    with audit_env.broker_env.ledger._transaction():  # a hub in the middle of one
        assert check_rules(await audit_env.probe()) == ()


async def test_a_database_that_is_inspected_cannot_be_written(audit_env: AuditEnvironment) -> None:
    with (
        pytest.raises(sa.exc.DBAPIError, match=r"readonly|read-only"),
        probes._database(audit_env.places.ledger_url) as ledger,
    ):
        ledger.execute(sa.text("DELETE FROM claims"))
