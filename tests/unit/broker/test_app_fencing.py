"""Fencing: a hub that slept while its lease moved on can create and start nothing for it any more."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from spawner.containers import Containers
from spawner.ledger import tables
from spawner.ledger.database import transaction
from spawner.model import Cause, LaunchError, Lease, LeaseState
from testing.eventually import eventually
from testing.fakes.docker_faults import Fault
from tests.unit.broker_env import INSTANCE, OTHER_UUID, UUID, BrokerEnvironment, running_broker_env


@pytest.fixture
async def broker_env(tmp_path: Path, ledger_url: str) -> AsyncIterator[BrokerEnvironment]:
    async with running_broker_env(tmp_path, ledger_url) as broker_env:
        yield broker_env


@pytest.fixture
async def sleeper(broker_env: BrokerEnvironment) -> AsyncIterator[Containers]:
    """The Docker client of a hub that slept and still believes in its lease."""
    containers = Containers(str(broker_env.socket_path), INSTANCE)
    yield containers
    await containers.close()


@pytest.fixture
async def successor(broker_env: BrokerEnvironment) -> AsyncIterator[Containers]:
    containers = Containers(str(broker_env.socket_path), INSTANCE)
    yield containers
    await containers.close()


async def hand_on(broker_env: BrokerEnvironment, successor: Containers) -> Lease:
    """Let the next hub close the lease on proof, and let its GPU go to bob."""
    closing = broker_env.ledger.move(
        broker_env.lease, LeaseState.CLOSING, now=2.0, cause=Cause.FAILED
    )
    await successor.remove(broker_env.name(), grace_seconds=0)
    broker_env.ledger.move(closing, LeaseState.CLOSED, now=3.0)
    bobs = broker_env.grant("bob", UUID)
    await successor.create(broker_env.name(bobs), broker_env.body(bobs))
    await successor.start(broker_env.name(bobs))
    return bobs


def running(broker_env: BrokerEnvironment) -> list[str]:
    return [name for name, c in broker_env.engine.containers.items() if c.is_running]


async def test_a_hub_that_slept_between_create_and_start_starts_nothing(
    broker_env: BrokerEnvironment, sleeper: Containers, successor: Containers
) -> None:
    await sleeper.create(broker_env.name(), broker_env.body())
    bobs = await hand_on(broker_env, successor)
    with pytest.raises(LaunchError):
        await sleeper.start(broker_env.name())
    assert running(broker_env) == [broker_env.name(bobs)]


async def test_a_hub_that_slept_before_its_create_creates_nothing(
    broker_env: BrokerEnvironment, sleeper: Containers, successor: Containers
) -> None:
    bobs = await hand_on(broker_env, successor)
    with pytest.raises(LaunchError, match="is closed: no container of it may start"):
        await sleeper.create(broker_env.name(), broker_env.body())
    assert list(broker_env.engine.containers) == [broker_env.name(bobs)]


async def test_a_create_that_lands_after_the_lease_moved_on_is_never_started(
    broker_env: BrokerEnvironment, sleeper: Containers, successor: Containers
) -> None:
    broker_env.engine.plan("create", Fault.LATE)
    creating = asyncio.create_task(sleeper.create(broker_env.name(), broker_env.body()))
    await eventually(lambda: bool(broker_env.engine.faults.held), "the create is in Docker")
    creating.cancel()
    bobs = await hand_on(broker_env, successor)
    broker_env.engine.release()
    async with asyncio.timeout(5):
        while broker_env.name() not in broker_env.engine.containers:
            await asyncio.sleep(0.005)
    with pytest.raises(LaunchError, match="is closed: no container of it may start"):
        await sleeper.start(broker_env.name())
    assert running(broker_env) == [broker_env.name(bobs)]


@pytest.mark.parametrize("changed", [{"epoch": 7}, {"gpu_uuids": [OTHER_UUID]}])
async def test_a_lease_that_an_old_backup_brought_back_starts_no_container_of_before(
    broker_env: BrokerEnvironment, sleeper: Containers, changed: dict[str, object]
) -> None:
    await sleeper.create(broker_env.name(), broker_env.body())
    with transaction(broker_env.ledger._engine) as ledger:
        ledger.execute(sa.update(tables.leases).values(changed))
    with pytest.raises(LaunchError, match="has changed since its container was created"):
        await sleeper.start(broker_env.name())
    assert running(broker_env) == []
    await sleeper.remove(broker_env.name(), grace_seconds=0)
    with pytest.raises(LaunchError, match="differs from its lease and settings"):
        await sleeper.create(broker_env.name(), broker_env.body())
