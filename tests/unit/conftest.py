"""What many tests begin with; who asks for the ledger runs on SQLite and on a real PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spawner.ledger import Ledger
from tests.fakes.docker_engine import FakeEngine
from tests.postgresql import PostgreSQL, postgresql
from tests.unit.audit_town import AuditTown
from tests.unit.broker_house import House, running_house
from tests.unit.workshop import Workshop

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
async def town(tmp_path: Path, ledger_url: str) -> AsyncIterator[AuditTown]:
    async with running_house(tmp_path, ledger_url) as house:
        town = AuditTown(house, tmp_path, ledger_url)
        yield town
        town.close()


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workshop]:
    monkeypatch.setattr("spawner.controller.leases.STOP_GRACE_SECONDS", 0)
    async with FakeEngine(tmp_path / "docker.sock") as engine:
        shop = Workshop(engine, tmp_path)
        await shop.controller.reconcile()
        yield shop
        engine.forget()
        await shop.containers.close()
        shop.ledger.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with running_house(tmp_path) as house:
        yield house
