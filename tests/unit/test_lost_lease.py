"""A lease whose GPU failed under it: left alone by everything that looks, and ended as others are."""

import asyncio
import functools
from dataclasses import replace

import pytest

from spawner.controller import Controller
from spawner.model import Cause, Granted, LaunchError, Lease, LeaseState, Reason, Refused, Waiting
from tests.unit.ledger_desk import ALICE
from tests.unit.made import GPU_0, GPU_1, make_request
from tests.unit.workshop import Workshop, eventually, run_until

HOUR = 3600.0
LOST = LeaseState.LOST


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spawner.controller.health.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("spawner.controller.controller.TICK_SECONDS", 0.05)
    monkeypatch.setattr("spawner.controller.ends.SETTLE_SECONDS", 0.05)


async def lose(shop: Workshop, lease: Lease) -> Lease:
    """Let GPU 0, which ``lease`` has, report a fatal Xid."""
    assert GPU_0 in lease.gpu_uuids
    shop.host.fail(0)
    await shop.controller.health.look()
    assert shop.state(lease) is LOST
    return shop.read(lease)


async def test_a_lost_lease_is_left_alone_over_everything_that_looks(shop: Workshop) -> None:
    lost = await lose(shop, await shop.running())
    name = shop.container(lost)
    ticked: list[Controller] = []
    begin = Controller.run_due_tasks

    async def counted(controller: Controller) -> None:
        await begin(controller)
        ticked.append(controller)

    for controller in (shop.controller, shop.restart_hub()):
        controller.run_due_tasks = functools.partial(counted, controller)  # type: ignore[method-assign]
        await controller.reconcile()
        # Docker's events are followed from here on, which begins with a look at everybody
        await run_until(controller.run(), lambda hub=controller: ticked.count(hub) >= 3)
        assert shop.read(lost) == lost
        assert shop.engine.containers[name].is_running


async def test_a_lost_lease_that_docker_only_forgot_to_list_is_left_alone(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = await lose(shop, await shop.running())

    async def list_nobody() -> tuple[()]:
        return ()

    monkeypatch.setattr(shop.containers, "list_servers", list_nobody)
    await shop.restart_hub().reconcile()
    assert shop.read(lost) == lost
    assert shop.engine.containers[shop.container(lost)].is_running


async def test_a_lost_lease_that_nobody_came_for_is_not_released_for_that(shop: Workshop) -> None:
    lease = await shop.running()
    unclaimed = replace(lease, is_claimed=False)
    shop.ledger.move(lease, LeaseState.CLOSING, now=shop.uptime, cause=Cause.USER)
    await shop.controller.tick()
    assert shop.ledger.adopt(replace(unclaimed, id="f" * 16))
    shop.put(replace(unclaimed, id="f" * 16), is_running=True)
    lost = await lose(shop, replace(unclaimed, id="f" * 16))
    shop.uptime += HOUR
    await shop.controller.tick()
    assert shop.state(lost) is LOST


async def test_a_lost_lease_ends_with_its_time(shop: Workshop) -> None:
    lost = await lose(shop, await shop.running())
    shop.uptime += 24 * HOUR
    await shop.controller.tick()
    assert (shop.state(lost), shop.read(lost).cause) == (LeaseState.CLOSED, Cause.EXPIRED)
    assert shop.engine.containers == {}


async def test_a_lost_lease_ends_when_its_server_ends_by_itself(shop: Workshop) -> None:
    lost = await lose(shop, await shop.running())
    run = asyncio.create_task(shop.controller.run())
    await eventually(lambda: shop.engine.events.listeners == 1)
    shop.engine.end(shop.container(lost), 1)
    await eventually(lambda: shop.state(lost) is LeaseState.CLOSED)
    run.cancel()
    assert shop.read(lost).cause is Cause.EXITED


async def test_a_lost_lease_whose_server_ended_while_no_hub_looked_is_closed(
    shop: Workshop,
) -> None:
    lost = await lose(shop, await shop.running())
    shop.engine.containers[shop.container(lost)].is_running = False
    await shop.restart_hub().reconcile()
    assert (shop.state(lost), shop.read(lost).cause) == (LeaseState.CLOSED, Cause.EXITED)


async def test_a_lost_lease_is_not_extended_and_says_why(shop: Workshop) -> None:
    await lose(shop, await shop.running())
    answer = await shop.controller.extend(ALICE, "", 1.0)
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.GPU_FAILED
    assert "failed, so its time cannot be extended" in answer.message


async def test_a_gpu_that_fails_at_the_start_is_what_ended_the_start(shop: Workshop) -> None:
    granted = await shop.granted()
    shop.host.fail(0)
    await shop.controller.health.look()
    assert shop.state(granted) is LOST
    with pytest.raises(LaunchError):
        await shop.controller.confirm(granted.id)
    trouble = await shop.controller.health.trouble_at_start(granted)
    assert trouble is not None
    assert trouble.startswith("GPU 0 failed (Xid 79) while your server was starting")
    assert await shop.controller.release(granted.id, Cause.FAILED)
    assert (await shop.granted()).gpu_uuids == (GPU_1,)


async def test_whose_turn_came_with_a_gpu_that_failed_is_told_so(shop: Workshop) -> None:
    alice = await shop.running("alice", 2)
    bob = await shop.waiting("bob")
    await shop.controller.release(alice.id, Cause.USER)
    await shop.controller.unattended()
    shop.host.fail(0)
    await shop.controller.health.look()
    turn = await shop.controller.await_turn(bob.id, lambda *_: None)
    assert turn is not None
    assert turn.state is LOST
    assert await shop.controller.health.trouble_at_start(turn)


async def test_a_server_that_was_used_is_its_users_to_end(shop: Workshop) -> None:
    lost = await lose(shop, await shop.running())
    controller = shop.restart_hub()
    await controller.reconcile()
    again = await shop.ask("alice")
    assert (shop.state(lost), shop.read(lost).cause) == (LeaseState.CLOSED, Cause.USER)
    assert again.gpu_uuids == (GPU_1,)


async def test_a_grant_that_failed_before_anybody_came_keeps_its_place(shop: Workshop) -> None:
    alice = await shop.running("alice", 2)
    bob = await shop.waiting("bob")
    controller = shop.restart_hub()
    await controller.reconcile()
    await controller.release(alice.id, Cause.USER)
    await controller.unattended()
    shop.host.fail(0)
    await controller.health.look()
    assert shop.state(bob) is LOST
    again = await controller.acquire(make_request("bob"))
    assert isinstance(again, Granted | Waiting)
    assert again.lease.requested_at == bob.requested_at
    assert shop.read(again.lease).gpu_uuids == (GPU_1,)


async def test_after_the_stop_the_next_in_line_gets_another(shop: Workshop) -> None:
    lost = await lose(shop, await shop.running("alice", 2))
    bob = await shop.waiting("bob")
    assert await shop.controller.release(lost.id, Cause.USER)
    await shop.controller.unattended()
    assert shop.read(bob).gpu_uuids == (GPU_1,)
    assert shop.quarantined() == [GPU_0]


async def test_the_trouble_is_told_for_as_long_as_the_server_runs(shop: Workshop) -> None:
    running = await shop.running()
    assert await shop.controller.health.trouble_of(running) is None
    lost = await lose(shop, running)
    told = (
        "GPU 0 of this server failed (Xid 79): save your work, stop the server and start it again."
    )
    assert await shop.controller.health.trouble_of(lost) == told
    await shop.controller.health.return_gpu(GPU_0, "root")
    assert await shop.controller.health.trouble_of(lost) == told, "it is still on that GPU"
    shop.host.is_silent = True
    nameless = await shop.controller.health.trouble_of(lost)
    assert nameless == told.replace("GPU 0", "A GPU")
