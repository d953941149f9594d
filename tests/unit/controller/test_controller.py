"""Leases in motion: a real ledger and a real Docker client against an Engine that fails on demand."""

from dataclasses import replace

import pytest

from spawner.model import (
    Cause,
    Granted,
    LaunchError,
    Lease,
    LeaseState,
    Reason,
    Refused,
    Unknown,
    Waiting,
)
from testing.factories import GPU_0, make_request
from testing.fakes.docker_faults import Fault
from tests.unit.controller_env import ControllerEnvironment, run_until
from tests.unit.ledger_helpers import ALICE

HOUR = 3600.0


def refused(answer: Granted | Waiting | Refused | Lease) -> Refused:
    assert isinstance(answer, Refused)
    return answer


async def test_a_lease_goes_from_granted_to_closed_with_its_container(
    controller_env: ControllerEnvironment,
) -> None:
    steps: list[str] = []
    lease = await controller_env.granted()
    host = await controller_env.controller.launch(
        lease, {"X": "1"}, lambda _, step: steps.append(step)
    )
    assert host == controller_env.container(lease)
    assert "home" in steps[0]
    assert controller_env.engine.containers[host].is_running
    await controller_env.controller.confirm(lease.id)
    assert controller_env.state(lease) is LeaseState.RUNNING

    assert await controller_env.controller.release(lease.id, Cause.USER) is True
    assert controller_env.engine.containers == {}
    closed = controller_env.ledger.lease(lease.id)
    assert closed is not None
    assert (closed.state, closed.cause) == (LeaseState.CLOSED, Cause.USER)
    assert await controller_env.controller.release(lease.id, Cause.USER) is True, (
        "again changes nothing"
    )


async def test_a_home_is_prepared_once(controller_env: ControllerEnvironment) -> None:
    for _ in range(2):
        lease = await controller_env.running()
        await controller_env.controller.release(lease.id, Cause.USER)
    prepared = [
        name for call, name in controller_env.engine.calls if call == "create" and "home" in name
    ]
    assert len(prepared) == 1


async def test_a_500_is_not_absence(controller_env: ControllerEnvironment) -> None:
    lease = await controller_env.running()
    controller_env.engine.plan("inspect", Fault.ERROR)
    with pytest.raises(Unknown):
        await controller_env.controller.inspect(lease.id)
    status = await controller_env.controller.inspect(lease.id)
    assert status is not None
    assert status.is_running


async def test_what_is_left_of_a_users_last_server_goes_before_the_next(
    controller_env: ControllerEnvironment,
) -> None:
    first = await controller_env.running("alice", gpus=2)
    second = await controller_env.running("alice", gpus=2)
    assert controller_env.state(first) is LeaseState.CLOSED
    assert list(controller_env.engine.containers) == [controller_env.container(second)]


async def test_a_users_next_server_waits_for_proof_that_the_last_is_gone(
    controller_env: ControllerEnvironment,
) -> None:
    await controller_env.running("alice")
    controller_env.engine.plan("delete", *[Fault.ERROR] * 500)
    answer = refused(await controller_env.controller.acquire(make_request("alice", 0)))
    assert answer.reason is Reason.ALREADY_HELD


async def test_a_silent_agent_gives_no_gpu_but_lets_the_others_work(
    controller_env: ControllerEnvironment,
) -> None:
    controller_env.host.is_silent = True
    answer = refused(await controller_env.controller.acquire(make_request()))
    assert answer.reason is Reason.NOT_READY
    assert "The GPU agent does not answer" in answer.message
    assert await controller_env.granted("bob", gpus=0)


async def test_a_missing_image_is_reported_before_anything_is_made(
    controller_env: ControllerEnvironment,
) -> None:
    controller_env.engine.images.clear()
    lease = await controller_env.granted()
    with pytest.raises(LaunchError, match="run scripts/up"):
        await controller_env.controller.launch(lease, {}, lambda _percent, _step: None)
    assert controller_env.engine.containers == {}
    assert await controller_env.controller.release(lease.id, Cause.FAILED) is True


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
    controller_env: ControllerEnvironment, operation: str, fault: Fault
) -> None:
    lease = await controller_env.running(gpus=2)
    controller_env.engine.plan(operation, *[fault] * 500)
    assert await controller_env.controller.release(lease.id, Cause.USER) is False
    assert controller_env.state(lease) is LeaseState.CLOSING
    next_one = await controller_env.waiting("bob")

    controller_env.engine.forget()
    assert await controller_env.controller.release(lease.id, Cause.USER) is True
    assert (await controller_env.granted("bob")).id == next_one.id
    assert controller_env.read(next_one).gpu_uuids == (GPU_0,)


async def test_the_loop_finishes_what_a_release_could_not(
    controller_env: ControllerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.controller.TICK_SECONDS", 0.01)
    lease = await controller_env.running()
    controller_env.engine.plan("delete", *[Fault.ERROR] * 500)
    assert await controller_env.controller.release(lease.id, Cause.USER) is False
    controller_env.engine.forget()
    await run_until(
        controller_env.controller.run(), lambda: controller_env.state(lease) is LeaseState.CLOSED
    )


# --- time


async def test_a_lease_whose_time_is_over_ends_with_its_home_kept(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await controller_env.running()
    controller_env.uptime += 24 * HOUR - 1
    await controller_env.controller.tick()
    assert controller_env.state(lease) is LeaseState.RUNNING
    controller_env.uptime += 1
    await controller_env.controller.tick()
    assert (controller_env.state(lease), controller_env.read(lease).cause) == (
        LeaseState.CLOSED,
        Cause.EXPIRED,
    )
    assert controller_env.engine.containers == {}
    assert [call for call, _ in controller_env.engine.calls if "volume" in call] == []


async def test_a_server_without_gpus_has_no_end(controller_env: ControllerEnvironment) -> None:
    lease = await controller_env.running(gpus=0)
    controller_env.uptime += 1000 * HOUR
    await controller_env.controller.tick()
    assert controller_env.state(lease) is LeaseState.RUNNING


@pytest.mark.parametrize("jump", [24 * HOUR, -24 * HOUR])
async def test_a_jump_of_the_wall_clock_frees_nothing(
    controller_env: ControllerEnvironment, jump: float
) -> None:
    lease = await controller_env.running()
    controller_env.wall_jump = jump
    await controller_env.controller.tick()
    await controller_env.restart_hub().reconcile()
    await controller_env.controller.tick()
    assert controller_env.state(lease) is LeaseState.RUNNING
    assert (lease.ends_at or 0.0) - controller_env.clock() == 24 * HOUR
    assert controller_env.clock.to_wall(lease.ends_at or 0.0) == 1000.0 + 24 * HOUR + jump


async def test_a_lease_is_extended_while_no_one_waits(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await controller_env.running()
    controller_env.uptime += 10 * HOUR
    extended = await controller_env.controller.extend(ALICE, "", 2.0)
    assert isinstance(extended, Lease)
    assert extended.ends_at == (lease.ends_at or 0.0) + 2 * HOUR
    assert (
        refused(await controller_env.controller.extend(replace(ALICE, name="bob"), "", 2.0)).reason
        is Reason.NO_LEASE
    )
    await controller_env.waiting("bob", 2)
    assert (
        refused(await controller_env.controller.extend(ALICE, "", 2.0)).reason is Reason.OTHERS_WAIT
    )


async def test_one_slow_end_delays_no_other(controller_env: ControllerEnvironment) -> None:
    slow, quick = await controller_env.running("alice"), await controller_env.running("bob")
    controller_env.engine.plan("stop", Fault.HANG, subject=controller_env.container(slow))
    controller_env.uptime += 24 * HOUR
    await run_until(
        controller_env.controller.tick(), lambda: controller_env.state(quick) is LeaseState.CLOSED
    )
    assert controller_env.state(slow) is LeaseState.CLOSING


async def test_one_slow_end_delays_none_that_comes_later(
    controller_env: ControllerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.controller.TICK_SECONDS", 0.01)
    began = controller_env.uptime
    slow = await controller_env.running("alice")
    controller_env.uptime += HOUR
    later = await controller_env.running("bob")
    controller_env.engine.plan("stop", Fault.HANG, subject=controller_env.container(slow))

    def is_later_closed() -> bool:
        if controller_env.state(slow) is LeaseState.CLOSING:
            controller_env.uptime = began + 25 * HOUR
        return controller_env.state(later) is LeaseState.CLOSED

    controller_env.uptime = began + 24 * HOUR
    await run_until(controller_env.controller.run(), is_later_closed)
    assert controller_env.state(slow) is LeaseState.CLOSING


async def test_confirming_a_lease_that_ended_meanwhile_is_reported(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await controller_env.running()
    await controller_env.controller.confirm(lease.id)
    await controller_env.controller.release(lease.id, Cause.USER)
    with pytest.raises(LaunchError, match="ended while your server was starting"):
        await controller_env.controller.confirm(lease.id)
