"""Shared fixtures; a test that uses ``ledger`` runs on SQLite and on a real PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spawner.ledger import Ledger
from testing.fakes.docker_engine import FakeEngine
from testing.postgresql import PostgreSQL, postgresql
from tests.unit.audit_env import AuditEnvironment
from tests.unit.broker_env import BrokerEnvironment, running_broker_env
from tests.unit.controller_env import ControllerEnvironment

__all__ = ["postgresql"]


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql.database() as name:
        yield postgresql.url(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = Ledger.open(ledger_url, first_uid=20000, half_life_hours=1)
    yield opened
    opened.close()


@pytest.fixture
async def audit_env(tmp_path: Path, ledger_url: str) -> AsyncIterator[AuditEnvironment]:
    async with running_broker_env(tmp_path, ledger_url) as broker_env:
        audit_env = AuditEnvironment(broker_env, tmp_path, ledger_url)
        yield audit_env
        audit_env.close()


@pytest.fixture
async def controller_env(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ControllerEnvironment]:
    monkeypatch.setattr("spawner.controller.lease_lifecycle.STOP_GRACE_SECONDS", 0)
    async with FakeEngine(tmp_path / "docker.sock") as engine:
        controller_env = ControllerEnvironment(engine, tmp_path)
        await controller_env.controller.reconcile()
        yield controller_env
        engine.forget()
        await controller_env.containers.close()
        controller_env.ledger.close()


@pytest.fixture
async def broker_env(tmp_path: Path) -> AsyncIterator[BrokerEnvironment]:
    async with running_broker_env(tmp_path) as broker_env:
        yield broker_env
