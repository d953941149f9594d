"""Homes are listed with their last sizes, and removed only when their account is over."""

import asyncio

import pytest

from spawner.broker import homes
from spawner.containers import Containers
from spawner.model import Cause, Lease, LeaseState, Unknown
from spawner.policy import names
from testing.eventually import eventually
from testing.fakes.docker_faults import Fault
from tests.unit.broker_env import INSTANCE, BrokerEnvironment


def labels(user: str, instance: str = INSTANCE) -> dict[str, str]:
    return {"workbench.instance": instance, "workbench.user": user}


def add_home(broker_env: BrokerEnvironment, user: str = "alice") -> str:
    account = broker_env.ledger.get_or_create_account(user, user)
    volume = names.home_volume(INSTANCE, user, account.uid)
    broker_env.engine.volumes[volume] = labels(user)
    return volume


def close(broker_env: BrokerEnvironment, lease: Lease) -> None:
    closing = broker_env.ledger.move(lease, LeaseState.CLOSING, now=2.0, cause=Cause.USER)
    broker_env.ledger.move(closing, LeaseState.CLOSED, now=3.0)


def end_account(broker_env: BrokerEnvironment, volume: str) -> bool:
    uid = int(volume.rpartition("-")[2])
    return broker_env.ledger.end_account(uid, volume, by="root", reason="left", now=4.0)


async def remove(broker_env: BrokerEnvironment, volume: str) -> tuple[int, str]:
    return await broker_env.request("DELETE", f"volumes/{volume}")


async def test_homes_are_listed_with_their_last_sizes(broker_env: BrokerEnvironment) -> None:
    volume = add_home(broker_env)
    broker_env.engine.volumes |= {"wb-data": {"workbench.instance": INSTANCE}, "other": None}
    broker_env.engine.volumes["x-home-eve-1"] = labels("eve", "x")
    broker_env.engine.sizes[volume] = 5000
    containers = Containers(str(broker_env.socket_path), INSTANCE)
    before = await containers.list_homes()
    assert (before.sizes, before.measured_at) == ({volume: None}, None)
    await broker_env.broker.homes.measure()
    assert (await containers.list_homes()).sizes == {volume: 5000}
    broker_env.engine.plan("volumes", Fault.ERROR)
    with pytest.raises(Unknown):
        await containers.list_homes()
    await containers.close()


async def test_a_failed_measurement_is_repeated_and_keeps_the_sizes(
    broker_env: BrokerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "MEASURE_INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(homes, "_IDLE_FACTOR", 0)
    volume = add_home(broker_env)
    await broker_env.broker.homes.measure()
    broker_env.engine.plan("disk_use", Fault.ERROR, Fault.GARBAGE, Fault.WRONG_SHAPE)
    broker_env.engine.sizes[volume] = 9
    watch = asyncio.create_task(broker_env.broker.homes.keep_measured())
    await eventually(lambda: broker_env.broker.homes._sizes == {volume: 9}, "it is measured")
    watch.cancel()


async def test_the_home_of_an_ended_account_is_removed(broker_env: BrokerEnvironment) -> None:
    volume = add_home(broker_env)
    close(broker_env, broker_env.lease)
    assert end_account(broker_env, volume)
    containers = Containers(str(broker_env.socket_path), INSTANCE)
    assert await containers.remove_home(volume) is None
    assert broker_env.engine.volumes == {}
    assert await containers.remove_home(volume) is None, "absence is what was asked for"
    await containers.close()


async def test_a_home_of_a_living_account_stays(broker_env: BrokerEnvironment) -> None:
    volume = add_home(broker_env)
    assert not end_account(broker_env, volume), "it has a lease"
    assert (await remove(broker_env, volume))[0] == 409
    close(broker_env, broker_env.lease)
    assert (await remove(broker_env, volume))[0] == 409
    assert volume in broker_env.engine.volumes


async def test_a_home_with_a_container_stays(broker_env: BrokerEnvironment) -> None:
    volume = add_home(broker_env)
    assert (await broker_env.create(broker_env.body()))[0] == 201
    close(broker_env, broker_env.lease)
    assert end_account(broker_env, volume)
    containers = Containers(str(broker_env.socket_path), INSTANCE)
    assert "volume is in use" in str(await containers.remove_home(volume))
    await containers.close()
    assert volume in broker_env.engine.volumes


async def test_no_other_volume_is_removed(broker_env: BrokerEnvironment) -> None:
    volume = add_home(broker_env)
    close(broker_env, broker_env.lease)
    assert end_account(broker_env, volume)
    uid = volume.rpartition("-")[2]
    for other in ("wb-data", f"wb-home-bob-{uid}", f"x-home-alice-{uid}", "wb-home-alice-0"):
        broker_env.engine.volumes[other] = labels("alice")
        assert (await remove(broker_env, other))[0] == 403
    broker_env.engine.volumes[volume] = labels("alice", "x")
    assert (await remove(broker_env, volume))[0] == 403
    assert len(broker_env.engine.volumes) == 5
