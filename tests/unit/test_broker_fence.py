"""Fencing: a hub that slept while its lease moved on can create and start nothing for it any more."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from spawner.containers import Bounds, Containers
from spawner.ledger import tables
from spawner.ledger.database import transaction
from spawner.model import Cause, LaunchError, Lease, LeaseState, Unknown
from tests.fakes.docker_engine import Fault
from tests.unit.broker_house import INSTANCE, OTHER_UUID, UUID, House, running_house


@pytest.fixture
async def house(tmp_path: Path, ledger_url: str) -> AsyncIterator[House]:
    async with running_house(tmp_path, ledger_url) as house:
        yield house


@pytest.fixture
async def sleeper(house: House) -> AsyncIterator[Containers]:
    """What the hub that fell asleep, and still believes in its lease, talks to Docker with."""
    containers = Containers(str(house.socket_path), INSTANCE)
    yield containers
    await containers.close()


@pytest.fixture
async def successor(house: House) -> AsyncIterator[Containers]:
    containers = Containers(str(house.socket_path), INSTANCE)
    yield containers
    await containers.close()


async def hand_on(house: House, successor: Containers) -> Lease:
    """Let the next hub close the lease on proof, and let its GPU go to bob."""
    closing = house.ledger.move(house.lease, LeaseState.CLOSING, now=2.0, cause=Cause.FAILED)
    await successor.remove(house.name(), grace_seconds=0)
    house.ledger.move(closing, LeaseState.CLOSED, now=3.0)
    bobs = house.grant("bob", UUID)
    await successor.create(house.name(bobs), house.body(bobs))
    await successor.start(house.name(bobs))
    return bobs


def running(house: House) -> list[str]:
    return [name for name, c in house.engine.containers.items() if c.is_running]


async def test_a_hub_that_slept_between_create_and_start_starts_nothing(
    house: House, sleeper: Containers, successor: Containers
) -> None:
    await sleeper.create(house.name(), house.body())
    bobs = await hand_on(house, successor)
    with pytest.raises(LaunchError):
        await sleeper.start(house.name())
    assert running(house) == [house.name(bobs)]


async def test_a_hub_that_slept_before_its_create_creates_nothing(
    house: House, sleeper: Containers, successor: Containers
) -> None:
    bobs = await hand_on(house, successor)
    with pytest.raises(LaunchError, match="is closed: no container of it may start"):
        await sleeper.create(house.name(), house.body())
    assert list(house.engine.containers) == [house.name(bobs)]


async def test_a_create_that_lands_after_the_lease_moved_on_is_never_started(
    house: House, successor: Containers
) -> None:
    sleeper = Containers(str(house.socket_path), INSTANCE, Bounds(launch_seconds=0.2))
    house.engine.plan("create", Fault.LATE)
    with pytest.raises(Unknown):
        await sleeper.create(house.name(), house.body())
    bobs = await hand_on(house, successor)
    house.engine.release()
    async with asyncio.timeout(5):
        while house.name() not in house.engine.containers:
            await asyncio.sleep(0.005)
    with pytest.raises(LaunchError, match="is closed: no container of it may start"):
        await sleeper.start(house.name())
    await sleeper.close()
    assert running(house) == [house.name(bobs)]


@pytest.mark.parametrize("changed", [{"epoch": 7}, {"gpu_uuids": [OTHER_UUID]}])
async def test_a_lease_that_an_old_backup_brought_back_starts_no_container_of_before(
    house: House, sleeper: Containers, changed: dict[str, object]
) -> None:
    await sleeper.create(house.name(), house.body())
    with transaction(house.ledger._engine) as ledger:
        ledger.execute(sa.update(tables.leases).values(changed))
    with pytest.raises(LaunchError, match="has changed since its container was made"):
        await sleeper.start(house.name())
    assert running(house) == []
    await sleeper.remove(house.name(), grace_seconds=0)
    with pytest.raises(LaunchError, match="is not what its lease and settings give"):
        await sleeper.create(house.name(), house.body())
