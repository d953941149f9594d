"""The ledger on both databases: each test that asks for it runs on SQLite and on a real PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spawner.ledger import Ledger
from tests.postgresql import PostgreSQL, postgresql
from tests.unit.audit_town import AuditTown
from tests.unit.broker_house import running_house

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
