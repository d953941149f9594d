"""The lease protocol: a real ledger and a real Docker client against an Engine that fails on demand."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from spawner.catalog import Catalog, Release
from spawner.containers import Bounds, Containers
from spawner.controller import Controller
from spawner.ledger import Ledger
from spawner.model import (
    Cause,
    Gpu,
    Granted,
    LaunchError,
    Lease,
    LeaseState,
    Reason,
    Refused,
    Unknown,
)
from spawner.policy import names
from spawner.policy.container import build_server
from spawner.settings import Settings
from tests.fakes.docker_engine import FakeEngine, Fault
from tests.unit.made import GPU_0, GPU_1, make_gpu, make_lease, make_request

SETTINGS = Settings()
RELEASE = Release("v2.7", "pytorch-cuda:v2.7", "PyTorch 2.7", "2.7.1", "12.6", "3.11")
CATALOG = Catalog("v2.7", {"v2.7": RELEASE})
QUICK = Bounds(ask_seconds=0.3, launch_seconds=0.5, prepare_seconds=0.5, remove_seconds=0.3)


class Host:
    """A host with two GPUs, whose agent can be told to be silent."""

    is_silent = False

    async def inventory(self) -> tuple[Gpu, ...]:
        if self.is_silent:
            raise Unknown("The GPU agent does not answer.")
        return (make_gpu(0), make_gpu(1))


class World:
    """Everything the controller works with."""

    def __init__(self, engine: FakeEngine, tmp_path: Path) -> None:
        self.engine = engine
        self.host = Host()
        self.url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
        self.ledger = Ledger.open(self.url, first_uid=SETTINGS.first_uid)
        self.containers = Containers(str(engine.socket_path), SETTINGS.instance, QUICK)
        self.controller = self.restart_hub()

    def restart_hub(self) -> Controller:
        """Forget all that was in memory."""
        self.controller = Controller(
            self.ledger, self.host, self.containers, CATALOG, SETTINGS, clock=lambda: 1000.0
        )
        return self.controller

    async def granted(self, user: str = "alice", gpus: int = 1) -> Lease:
        answer = await self.controller.acquire(make_request(user, gpus))
        assert isinstance(answer, Granted), answer
        return answer.lease

    async def running(self, user: str = "alice", gpus: int = 1) -> Lease:
        lease = await self.granted(user, gpus)
        await self.controller.launch(lease, {}, lambda _percent, _step: None)
        await self.controller.confirm(lease.id)
        return lease

    def state(self, lease: Lease) -> LeaseState:
        found = self.ledger.lease(lease.id)
        assert found is not None
        return found.state

    def container(self, lease: Lease) -> str:
        return names.container_name(SETTINGS.instance, lease)

    def put(self, lease: Lease, *, is_running: bool) -> str:
        """Let a container of ``lease`` exist that this hub did not make."""
        name = self.container(lease)
        body = build_server(
            lease,
            instance=SETTINGS.instance,
            image_id="sha256:1",
            limits=SETTINGS.limits,
            environment={},
        )
        self.engine.add(name, body, is_running=is_running)
        return name


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("spawner.controller.STOP_GRACE_SECONDS", 0)
    async with FakeEngine(tmp_path / "docker.sock") as engine:
        engine.images["pytorch-cuda:v2.7"] = "sha256:1"
        world = World(engine, tmp_path)
        await world.controller.reconcile()
        yield world
        engine.forget()
        await world.containers.close()
        world.ledger.close()


def refused(answer: Granted | Refused) -> Refused:
    assert isinstance(answer, Refused)
    return answer


async def test_a_lease_goes_from_granted_to_closed_with_its_container(world: World) -> None:
    steps: list[str] = []
    lease = await world.granted()
    host = await world.controller.launch(lease, {"X": "1"}, lambda _, step: steps.append(step))
    assert host == world.container(lease)
    assert "home" in steps[0]
    assert world.engine.containers[host].is_running
    await world.controller.confirm(lease.id)
    assert world.state(lease) is LeaseState.RUNNING

    assert await world.controller.release(lease.id, Cause.USER) is True
    assert world.engine.containers == {}
    closed = world.ledger.lease(lease.id)
    assert closed is not None
    assert (closed.state, closed.cause) == (LeaseState.CLOSED, Cause.USER)
    assert await world.controller.release(lease.id, Cause.USER) is True, "again changes nothing"


async def test_a_home_is_prepared_once(world: World) -> None:
    for _ in range(2):
        lease = await world.running()
        await world.controller.release(lease.id, Cause.USER)
    prepared = [name for call, name in world.engine.calls if call == "create" and "home" in name]
    assert len(prepared) == 1


async def test_a_hundred_requests_at_once_get_two_gpus(world: World) -> None:
    requests = [make_request(f"user{i}") for i in range(100)]
    answers = await asyncio.gather(*map(world.controller.acquire, requests))
    held = [a.lease.gpu_uuids for a in answers if isinstance(a, Granted)]
    assert sorted(held) == [(GPU_0,), (GPU_1,)]


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        ("stop", Fault.ERROR),
        ("delete", Fault.ERROR),
        ("delete", Fault.DROP),
        ("inspect", Fault.ERROR),
        ("inspect", Fault.GARBAGE),
        ("inspect", Fault.PAGE_NOT_FOUND),
        ("inspect", Fault.HANG),
    ],
)
async def test_a_gpu_is_not_freed_without_proof_of_absence(
    world: World, operation: str, fault: Fault
) -> None:
    lease = await world.running(gpus=2)
    world.engine.plan(operation, *[fault] * 500)
    assert await world.controller.release(lease.id, Cause.USER) is False
    assert world.state(lease) is LeaseState.CLOSING
    other = refused(await world.controller.acquire(make_request("bob")))
    assert other.reason is Reason.NO_FREE_GPU
    assert "being given back by alice" in other.message

    world.engine.forget()
    assert await world.controller.release(lease.id, Cause.USER) is True
    assert (await world.granted("bob")).gpu_uuids == (GPU_0,)


async def test_a_500_is_not_absence(world: World) -> None:
    lease = await world.running()
    world.engine.plan("inspect", Fault.ERROR)
    with pytest.raises(Unknown):
        await world.controller.look(lease.id)
    status = await world.controller.look(lease.id)
    assert status is not None
    assert status.is_running


async def test_nothing_is_acquired_before_reconcile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.READY_TIMEOUT_SECONDS", 0.05)
    controller = world.restart_hub()
    world.engine.plan("list", *[Fault.ERROR] * 3)
    for _ in range(3):
        with pytest.raises(Unknown):
            await controller.reconcile()
        assert refused(await controller.acquire(make_request())).reason is Reason.NOT_READY
    await controller.reconcile()
    assert isinstance(await controller.acquire(make_request()), Granted)


async def test_a_restarted_hub_keeps_what_runs_and_closes_what_died_with_it(world: World) -> None:
    kept = await world.running("alice")
    half_started = await world.granted("bob")
    await world.controller.launch(half_started, {}, lambda _percent, _step: None)
    await world.restart_hub().reconcile()
    assert world.state(kept) is LeaseState.RUNNING
    assert world.state(half_started) is LeaseState.CLOSED
    assert list(world.engine.containers) == [world.container(kept)]


async def test_a_lease_whose_container_is_gone_is_closed_as_lost(world: World) -> None:
    lease = await world.running()
    world.engine.containers.clear()
    await world.restart_hub().reconcile()
    closed = world.ledger.lease(lease.id)
    assert closed is not None
    assert (closed.state, closed.cause) == (LeaseState.CLOSED, Cause.LOST)


async def test_a_running_container_that_the_ledger_forgot_is_adopted(world: World) -> None:
    lease = make_lease(user="zoë", server="two", gpu_uuids=(GPU_0,))
    name = world.put(lease, is_running=True)
    await world.restart_hub().reconcile()
    assert name in world.engine.containers
    adopted = world.ledger.lease(lease.id)
    assert adopted is not None
    assert (adopted.state, adopted.user, adopted.gpu_uuids) == (LeaseState.RUNNING, "zoë", (GPU_0,))
    assert (await world.granted("bob")).gpu_uuids == (GPU_1,)


async def test_a_forgotten_container_whose_gpu_is_held_is_left_for_the_admin(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.running("bob")
    name = world.put(make_lease(gpu_uuids=(GPU_0,)), is_running=True)
    await world.restart_hub().reconcile()
    assert name in world.engine.containers
    assert name in caplog.text


async def test_a_create_that_landed_after_its_lease_closed_is_removed(world: World) -> None:
    lease = await world.running()
    await world.controller.release(lease.id, Cause.FAILED)
    world.put(lease, is_running=False)
    await world.restart_hub().reconcile()
    assert world.engine.containers == {}


async def test_what_is_left_of_a_users_last_server_goes_before_the_next(world: World) -> None:
    first = await world.running("alice", gpus=2)
    second = await world.running("alice", gpus=2)
    assert world.state(first) is LeaseState.CLOSED
    assert list(world.engine.containers) == [world.container(second)]


async def test_a_users_next_server_waits_for_proof_that_the_last_is_gone(world: World) -> None:
    await world.running("alice")
    world.engine.plan("delete", *[Fault.ERROR] * 500)
    answer = refused(await world.controller.acquire(make_request("alice", 0)))
    assert answer.reason is Reason.ALREADY_HELD


async def test_a_silent_agent_gives_no_gpu_but_lets_the_others_work(world: World) -> None:
    world.host.is_silent = True
    answer = refused(await world.controller.acquire(make_request()))
    assert answer.reason is Reason.NOT_READY
    assert "The GPU agent does not answer." in answer.message
    assert await world.granted("bob", gpus=0)
    offer = await world.controller.offer("alice")
    assert (offer.gpus, offer.error) == ((), "The GPU agent does not answer.")


async def test_an_offer_shows_each_gpu_with_its_holder(world: World) -> None:
    await world.running("bob")
    offer = await world.controller.offer("alice")
    shown: list[Any] = [(g.gpu.index, g.holder, g.since, g.is_free) for g in offer.gpus]
    assert shown == [(0, "bob", 1000.0, False), (1, None, None, True)]
    assert offer.held_by_user == 0
    assert (await world.controller.offer("bob")).held_by_user == 1


async def test_a_missing_image_is_said_before_anything_is_made(world: World) -> None:
    world.engine.images.clear()
    lease = await world.granted()
    with pytest.raises(LaunchError, match="run scripts/up"):
        await world.controller.launch(lease, {}, lambda _percent, _step: None)
    assert world.engine.containers == {}
    assert await world.controller.release(lease.id, Cause.FAILED) is True


async def test_the_loop_finishes_what_a_release_could_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.CLOSING_RETRY_SECONDS", 0.01)
    lease = await world.running()
    world.engine.plan("delete", *[Fault.ERROR] * 500)
    assert await world.controller.release(lease.id, Cause.USER) is False
    world.engine.forget()
    loop = asyncio.create_task(world.controller.run())
    try:
        async with asyncio.timeout(5):
            while world.state(lease) is not LeaseState.CLOSED:
                await asyncio.sleep(0.01)
    finally:
        loop.cancel()
