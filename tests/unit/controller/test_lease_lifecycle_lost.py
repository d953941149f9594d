"""A lease whose GPU failed under it: left alone by everything that looks, and ended as others are."""

import asyncio
import functools
from dataclasses import replace

import pytest

from spawner.controller import Controller
from spawner.model import Cause, Granted, LaunchError, Lease, LeaseState, Reason, Refused, Waiting
from testing.eventually import eventually
from testing.factories import GPU_0, GPU_1, make_request
from tests.unit.controller_env import ControllerEnvironment, run_until
from tests.unit.ledger_helpers import ALICE

HOUR = 3600.0
LOST = LeaseState.LOST


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spawner.controller.health.CHECK_SECONDS", 0.01)
    monkeypatch.setattr("spawner.controller.controller.TICK_SECONDS", 0.05)
    monkeypatch.setattr("spawner.controller.end_watcher.SETTLE_SECONDS", 0.05)


async def lose(controller_env: ControllerEnvironment, lease: Lease) -> Lease:
    """Let GPU 0, which ``lease`` has, report a fatal Xid."""
    assert GPU_0 in lease.gpu_uuids
    controller_env.host.fail(0)
    await controller_env.controller.health.check()
    assert controller_env.state(lease) is LOST
    return controller_env.read(lease)


async def test_a_lost_lease_is_left_alone_over_every_check(
    controller_env: ControllerEnvironment,
) -> None:
    lost = await lose(controller_env, await controller_env.running())
    name = controller_env.container(lost)
    ticked: list[Controller] = []
    begin = Controller.run_due_tasks

    async def counted(controller: Controller) -> None:
        await begin(controller)
        ticked.append(controller)

    for controller in (controller_env.controller, controller_env.restart_hub()):
        controller.run_due_tasks = functools.partial(counted, controller)  # type: ignore[method-assign]
        await controller.reconcile()
        # Docker's events are followed from here on, which begins with an inspection of every server
        ticked.clear()
        await run_until(controller.run(), lambda: len(ticked) >= 3)
        assert controller_env.read(lost) == lost
        assert controller_env.engine.containers[name].is_running


async def test_a_lost_lease_that_docker_only_forgot_to_list_is_left_alone(
    controller_env: ControllerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = await lose(controller_env, await controller_env.running())

    async def list_nobody() -> tuple[()]:
        return ()

    monkeypatch.setattr(controller_env.containers, "list_servers", list_nobody)
    await controller_env.restart_hub().reconcile()
    assert controller_env.read(lost) == lost
    assert controller_env.engine.containers[controller_env.container(lost)].is_running


async def test_a_lost_lease_that_no_one_came_for_is_not_released_for_that(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await controller_env.running()
    unclaimed = replace(lease, is_claimed=False)
    controller_env.ledger.move(
        lease, LeaseState.CLOSING, now=controller_env.uptime, cause=Cause.USER
    )
    await controller_env.controller.tick()
    assert controller_env.ledger.adopt(replace(unclaimed, id="f" * 16))
    controller_env.put(replace(unclaimed, id="f" * 16), is_running=True)
    lost = await lose(controller_env, replace(unclaimed, id="f" * 16))
    controller_env.uptime += HOUR
    await controller_env.controller.tick()
    assert controller_env.state(lost) is LOST


async def test_a_lost_lease_ends_with_its_time(controller_env: ControllerEnvironment) -> None:
    lost = await lose(controller_env, await controller_env.running())
    controller_env.uptime += 24 * HOUR
    await controller_env.controller.tick()
    assert (controller_env.state(lost), controller_env.read(lost).cause) == (
        LeaseState.CLOSED,
        Cause.EXPIRED,
    )
    assert controller_env.engine.containers == {}


async def test_a_lost_lease_ends_when_its_server_ends_by_itself(
    controller_env: ControllerEnvironment,
) -> None:
    lost = await lose(controller_env, await controller_env.running())
    run = asyncio.create_task(controller_env.controller.run())
    await eventually(lambda: controller_env.engine.events.listeners == 1)
    controller_env.engine.end(controller_env.container(lost), 1)
    await eventually(lambda: controller_env.state(lost) is LeaseState.CLOSED)
    run.cancel()
    assert controller_env.read(lost).cause is Cause.EXITED


async def test_a_lost_lease_whose_server_ended_while_no_hub_ran_is_closed(
    controller_env: ControllerEnvironment,
) -> None:
    lost = await lose(controller_env, await controller_env.running())
    controller_env.engine.containers[controller_env.container(lost)].is_running = False
    await controller_env.restart_hub().reconcile()
    assert (controller_env.state(lost), controller_env.read(lost).cause) == (
        LeaseState.CLOSED,
        Cause.EXITED,
    )


async def test_a_lost_lease_is_not_extended_and_gives_the_reason(
    controller_env: ControllerEnvironment,
) -> None:
    await lose(controller_env, await controller_env.running())
    answer = await controller_env.controller.extend(ALICE, "", 1.0)
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.GPU_FAILED
    assert "failed, so its time cannot be extended" in answer.message


async def test_a_gpu_that_fails_at_the_start_is_what_ended_the_start(
    controller_env: ControllerEnvironment,
) -> None:
    granted = await controller_env.granted()
    controller_env.host.fail(0)
    await controller_env.controller.health.check()
    assert controller_env.state(granted) is LOST
    with pytest.raises(LaunchError):
        await controller_env.controller.confirm(granted.id)
    trouble = await controller_env.controller.health.trouble_at_start(granted)
    assert trouble is not None
    assert trouble.startswith("GPU 0 failed (Xid 79) while your server was starting")
    assert await controller_env.controller.release(granted.id, Cause.FAILED)
    assert (await controller_env.granted()).gpu_uuids == (GPU_1,)


async def test_whose_turn_came_with_a_gpu_that_failed_sees_it(
    controller_env: ControllerEnvironment,
) -> None:
    alice = await controller_env.running("alice", 2)
    bob = await controller_env.waiting("bob")
    await controller_env.controller.release(alice.id, Cause.USER)
    await controller_env.controller.leases_without_spawn()
    controller_env.host.fail(0)
    await controller_env.controller.health.check()
    turn = await controller_env.controller.wait_for_grant(bob.id, lambda *_: None)
    assert turn is not None
    assert turn.state is LOST
    assert await controller_env.controller.health.trouble_at_start(turn)


async def test_a_server_that_was_used_is_its_users_to_end(
    controller_env: ControllerEnvironment,
) -> None:
    lost = await lose(controller_env, await controller_env.running())
    controller = controller_env.restart_hub()
    await controller.reconcile()
    again = await controller_env.acquire("alice")
    assert (controller_env.state(lost), controller_env.read(lost).cause) == (
        LeaseState.CLOSED,
        Cause.USER,
    )
    assert again.gpu_uuids == (GPU_1,)


async def test_a_grant_that_failed_before_anyone_came_keeps_its_place(
    controller_env: ControllerEnvironment,
) -> None:
    alice = await controller_env.running("alice", 2)
    bob = await controller_env.waiting("bob")
    controller = controller_env.restart_hub()
    await controller.reconcile()
    await controller.release(alice.id, Cause.USER)
    await controller.leases_without_spawn()
    controller_env.host.fail(0)
    await controller.health.check()
    assert controller_env.state(bob) is LOST
    again = await controller.acquire(make_request("bob"))
    assert isinstance(again, Granted | Waiting)
    assert again.lease.requested_at == bob.requested_at
    assert controller_env.read(again.lease).gpu_uuids == (GPU_1,)


async def test_after_the_stop_the_next_in_line_gets_another(
    controller_env: ControllerEnvironment,
) -> None:
    lost = await lose(controller_env, await controller_env.running("alice", 2))
    bob = await controller_env.waiting("bob")
    assert await controller_env.controller.release(lost.id, Cause.USER)
    await controller_env.controller.leases_without_spawn()
    assert controller_env.read(bob).gpu_uuids == (GPU_1,)
    assert controller_env.quarantined() == [GPU_0]


async def test_the_trouble_is_reported_for_as_long_as_the_server_runs(
    controller_env: ControllerEnvironment,
) -> None:
    running = await controller_env.running()
    assert await controller_env.controller.health.trouble_of(running) is None
    lost = await lose(controller_env, running)
    told = (
        "GPU 0 of this server failed (Xid 79): save your work, stop the server and start it again."
    )
    assert await controller_env.controller.health.trouble_of(lost) == told
    await controller_env.controller.health.release_gpu(GPU_0, "root")
    assert await controller_env.controller.health.trouble_of(lost) == told, (
        "it is still on that GPU"
    )
    controller_env.host.is_silent = True
    nameless = await controller_env.controller.health.trouble_of(lost)
    assert nameless == told.replace("GPU 0", "A GPU")
