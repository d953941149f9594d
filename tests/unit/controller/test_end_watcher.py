"""A server that ends by itself is noticed at once, for what ended it, and never on an event's word alone."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from spawner.containers import ContainerStatus
from spawner.controller.end_watcher import EndWatcher, cause_of_end
from spawner.ledger import Ledger
from spawner.model import Cause, Lease, LeaseState, Unknown
from testing.eventually import eventually
from testing.fakes.docker_faults import Fault
from tests.unit.controller_env import ControllerEnvironment

RUNNING, CLOSED = LeaseState.RUNNING, LeaseState.CLOSED


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spawner.controller.end_watcher.SETTLE_SECONDS", 0.05)
    monkeypatch.setattr("spawner.controller.end_watcher.RETRY_SECONDS", 0.05)


@pytest.fixture
async def listening(controller_env: ControllerEnvironment) -> AsyncIterator[None]:
    following = asyncio.create_task(
        EndWatcher(
            controller_env.containers, controller_env.ledger, controller_env.controller
        ).follow()
    )
    await eventually(lambda: controller_env.engine.events.listeners == 1)
    yield
    assert not following.done()
    following.cancel()


async def closed_for(controller_env: ControllerEnvironment, lease: Lease) -> Cause | None:
    await eventually(lambda: controller_env.state(lease) is CLOSED)
    return controller_env.read(lease).cause


@pytest.mark.usefixtures("listening")
async def test_a_server_that_ends_frees_its_gpu_and_the_hub_is_notified(
    controller_env: ControllerEnvironment,
) -> None:
    told: list[Lease] = []
    controller_env.controller.on_closed = told.append
    lease = await controller_env.running()
    other = await controller_env.running("bob")
    controller_env.engine.end(controller_env.container(lease), 1)
    assert await closed_for(controller_env, lease) is Cause.EXITED
    await eventually(lambda: [closed.id for closed in told] == [lease.id])
    assert list(controller_env.engine.containers) == [controller_env.container(other)]
    assert controller_env.state(other) is RUNNING


@pytest.mark.usefixtures("listening")
async def test_the_kernels_kill_is_its_own_cause(controller_env: ControllerEnvironment) -> None:
    lease = await controller_env.running()
    controller_env.engine.end(controller_env.container(lease), 137, oom=True)
    assert await closed_for(controller_env, lease) is Cause.OUT_OF_MEMORY


@pytest.mark.usefixtures("listening")
async def test_the_kernels_word_may_come_after_the_end(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await controller_env.running()
    controller_env.engine.end(controller_env.container(lease), 137)
    controller_env.engine.containers[controller_env.container(lease)].oom_killed = True
    assert await closed_for(controller_env, lease) is Cause.OUT_OF_MEMORY


@pytest.mark.usefixtures("listening")
async def test_a_server_removed_by_hand_is_lost(controller_env: ControllerEnvironment) -> None:
    lease = await controller_env.running()
    controller_env.engine.vanish(controller_env.container(lease))
    assert await closed_for(controller_env, lease) is Cause.LOST


@pytest.mark.usefixtures("listening")
async def test_a_server_restarted_by_hand_runs_on(
    controller_env: ControllerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.end_watcher.SETTLE_SECONDS", 1.0)
    lease, other = await controller_env.running(), await controller_env.running("bob")
    controller_env.engine.end(controller_env.container(lease), 0)
    await asyncio.sleep(0.1)  # it takes Docker a moment to start it again
    controller_env.engine.containers[controller_env.container(lease)].is_running = True
    controller_env.engine.end(controller_env.container(other), 0)
    assert await closed_for(controller_env, other) is Cause.EXITED
    assert controller_env.state(lease) is RUNNING
    assert controller_env.container(lease) in controller_env.engine.containers


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize(
    "fault", [Fault.ERROR, Fault.GARBAGE, Fault.PAGE_NOT_FOUND, Fault.WRONG_SHAPE]
)
async def test_an_event_alone_ends_nothing(
    controller_env: ControllerEnvironment, fault: Fault
) -> None:
    lease = await controller_env.running()
    name = controller_env.container(lease)
    asked = len(controller_env.engine.calls)
    controller_env.engine.plan("inspect", *[fault] * 10_000)
    controller_env.engine.vanish(name)
    await eventually(lambda: controller_env.engine.calls[asked:].count(("inspect", name)) >= 3)
    assert controller_env.state(lease) is RUNNING, "nobody knows yet"
    controller_env.engine.forget()
    assert await closed_for(controller_env, lease) is Cause.LOST


@pytest.mark.usefixtures("listening")
async def test_a_lie_ends_nothing(controller_env: ControllerEnvironment) -> None:
    lease, other = await controller_env.running(), await controller_env.running("bob")
    for name, tell in (
        (controller_env.container(lease), "die"),
        (controller_env.container(lease), "destroy"),
    ):
        container = controller_env.engine.containers[name]
        attributes = {**container.body["Labels"], "name": name, "exitCode": "137"}
        controller_env.engine.events.publish(tell, container.id, attributes)
    controller_env.engine.end(controller_env.container(other), 0)
    await closed_for(controller_env, other)
    assert controller_env.state(lease) is RUNNING
    assert controller_env.engine.containers[controller_env.container(lease)].is_running


@pytest.mark.usefixtures("listening")
async def test_a_spawn_that_fails_is_not_taken_out_of_its_hands(
    controller_env: ControllerEnvironment,
) -> None:
    starting, running = await controller_env.granted(), await controller_env.running("bob")
    await controller_env.controller.launch(starting, {}, lambda _percent, _step: None)
    controller_env.engine.end(controller_env.container(starting), 1)
    controller_env.engine.end(controller_env.container(running), 1)
    await closed_for(controller_env, running)
    assert controller_env.state(starting) is LeaseState.GRANTED


@pytest.mark.usefixtures("listening")
async def test_what_a_stop_brings_about_keeps_the_causes_of_the_stop(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await controller_env.running()
    assert await controller_env.controller.release(lease.id, Cause.USER)
    assert controller_env.read(lease).cause is Cause.USER


@pytest.mark.usefixtures("listening")
async def test_after_a_gap_every_server_is_inspected(controller_env: ControllerEnvironment) -> None:
    gone, exited, kept = (
        await controller_env.running("a"),
        await controller_env.running("b"),
        await controller_env.running("c", 0),
    )
    del controller_env.engine.containers[controller_env.container(gone)]
    controller_env.engine.containers[controller_env.container(exited)].is_running = False
    controller_env.engine.events.cut()
    assert await closed_for(controller_env, gone) is Cause.LOST
    assert await closed_for(controller_env, exited) is Cause.EXITED
    assert controller_env.state(kept) is RUNNING


@pytest.mark.usefixtures("listening")
async def test_a_locked_ledger_is_retried(
    controller_env: ControllerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await controller_env.running()
    real, failures = Ledger.live_leases, iter(range(3))

    def locked(ledger: Ledger) -> tuple[Lease, ...]:
        if next(failures, None) is not None:
            raise Unknown("The ledger cannot be reached: database is locked.")
        return real(ledger)

    monkeypatch.setattr(Ledger, "live_leases", locked)
    del controller_env.engine.containers[controller_env.container(lease)]
    controller_env.engine.events.cut()
    assert await closed_for(controller_env, lease) is Cause.LOST


@pytest.mark.usefixtures("listening")
async def test_an_error_over_one_end_does_not_deafen(
    controller_env: ControllerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, other = await controller_env.running(), await controller_env.running("bob")
    real = controller_env.controller.inspect

    async def inspect(lease_id: str) -> ContainerStatus | None:
        if lease_id == broken.id:
            raise RuntimeError("broken")
        return await real(lease_id)

    monkeypatch.setattr(controller_env.controller, "inspect", inspect)
    controller_env.engine.end(controller_env.container(broken), 0)
    controller_env.engine.end(controller_env.container(other), 0)
    assert await closed_for(controller_env, other) is Cause.EXITED
    assert controller_env.state(broken) is RUNNING


async def test_the_running_controller_listens(controller_env: ControllerEnvironment) -> None:
    run = asyncio.create_task(controller_env.controller.run())
    lease = await controller_env.running()
    await eventually(lambda: controller_env.engine.events.listeners == 1)
    controller_env.engine.vanish(controller_env.container(lease))
    assert await closed_for(controller_env, lease) is Cause.LOST
    run.cancel()


def status(
    exit_code: int | None, *, oom_killed: bool = False, is_being_removed: bool = False
) -> ContainerStatus:
    return ContainerStatus(
        "id", "name", {}, exit_code is None, exit_code, oom_killed, None, None, is_being_removed
    )


@pytest.mark.parametrize(
    ("seen", "oom", "cause"),
    [
        (None, False, Cause.LOST),
        (None, True, Cause.LOST),
        (status(0), False, Cause.EXITED),
        (status(137), False, Cause.EXITED),  # killed by hand
        (status(137, is_being_removed=True), False, Cause.LOST),
        (status(137, oom_killed=True), False, Cause.OUT_OF_MEMORY),
        (status(137), True, Cause.OUT_OF_MEMORY),
        (status(0, oom_killed=True), True, Cause.EXITED),  # a notebook's kernel, hours ago
    ],
)
def test_the_cause_of_an_end(seen: ContainerStatus | None, oom: bool, cause: Cause) -> None:
    assert cause_of_end(seen, oom=oom) is cause
