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
from tests.fakes.docker_engine import Fault
from tests.unit.ledger_desk import ALICE
from tests.unit.made import GPU_0, make_request
from tests.unit.workshop import Workshop, run_until

HOUR = 3600.0


def refused(answer: Granted | Waiting | Refused | Lease) -> Refused:
    assert isinstance(answer, Refused)
    return answer


async def test_a_lease_goes_from_granted_to_closed_with_its_container(shop: Workshop) -> None:
    steps: list[str] = []
    lease = await shop.granted()
    host = await shop.controller.launch(lease, {"X": "1"}, lambda _, step: steps.append(step))
    assert host == shop.container(lease)
    assert "home" in steps[0]
    assert shop.engine.containers[host].is_running
    await shop.controller.confirm(lease.id)
    assert shop.state(lease) is LeaseState.RUNNING

    assert await shop.controller.release(lease.id, Cause.USER) is True
    assert shop.engine.containers == {}
    closed = shop.ledger.lease(lease.id)
    assert closed is not None
    assert (closed.state, closed.cause) == (LeaseState.CLOSED, Cause.USER)
    assert await shop.controller.release(lease.id, Cause.USER) is True, "again changes nothing"


async def test_a_home_is_prepared_once(shop: Workshop) -> None:
    for _ in range(2):
        lease = await shop.running()
        await shop.controller.release(lease.id, Cause.USER)
    prepared = [name for call, name in shop.engine.calls if call == "create" and "home" in name]
    assert len(prepared) == 1


async def test_a_500_is_not_absence(shop: Workshop) -> None:
    lease = await shop.running()
    shop.engine.plan("inspect", Fault.ERROR)
    with pytest.raises(Unknown):
        await shop.controller.look(lease.id)
    status = await shop.controller.look(lease.id)
    assert status is not None
    assert status.is_running


async def test_what_is_left_of_a_users_last_server_goes_before_the_next(shop: Workshop) -> None:
    first = await shop.running("alice", gpus=2)
    second = await shop.running("alice", gpus=2)
    assert shop.state(first) is LeaseState.CLOSED
    assert list(shop.engine.containers) == [shop.container(second)]


async def test_a_users_next_server_waits_for_proof_that_the_last_is_gone(shop: Workshop) -> None:
    await shop.running("alice")
    shop.engine.plan("delete", *[Fault.ERROR] * 500)
    answer = refused(await shop.controller.acquire(make_request("alice", 0)))
    assert answer.reason is Reason.ALREADY_HELD


async def test_a_silent_agent_gives_no_gpu_but_lets_the_others_work(shop: Workshop) -> None:
    shop.host.is_silent = True
    answer = refused(await shop.controller.acquire(make_request()))
    assert answer.reason is Reason.NOT_READY
    assert "The GPU agent does not answer." in answer.message
    assert await shop.granted("bob", gpus=0)


async def test_a_missing_image_is_said_before_anything_is_made(shop: Workshop) -> None:
    shop.engine.images.clear()
    lease = await shop.granted()
    with pytest.raises(LaunchError, match="run scripts/up"):
        await shop.controller.launch(lease, {}, lambda _percent, _step: None)
    assert shop.engine.containers == {}
    assert await shop.controller.release(lease.id, Cause.FAILED) is True


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
    shop: Workshop, operation: str, fault: Fault
) -> None:
    lease = await shop.running(gpus=2)
    shop.engine.plan(operation, *[fault] * 500)
    assert await shop.controller.release(lease.id, Cause.USER) is False
    assert shop.state(lease) is LeaseState.CLOSING
    next_one = await shop.waiting("bob")

    shop.engine.forget()
    assert await shop.controller.release(lease.id, Cause.USER) is True
    assert (await shop.granted("bob")).id == next_one.id
    assert shop.read(next_one).gpu_uuids == (GPU_0,)


async def test_the_loop_finishes_what_a_release_could_not(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.controller.TICK_SECONDS", 0.01)
    lease = await shop.running()
    shop.engine.plan("delete", *[Fault.ERROR] * 500)
    assert await shop.controller.release(lease.id, Cause.USER) is False
    shop.engine.forget()
    await run_until(shop.controller.run(), lambda: shop.state(lease) is LeaseState.CLOSED)


# --- time


async def test_a_lease_whose_time_is_over_ends_with_its_home_kept(shop: Workshop) -> None:
    lease = await shop.running()
    shop.uptime += 24 * HOUR - 1
    await shop.controller.tick()
    assert shop.state(lease) is LeaseState.RUNNING
    shop.uptime += 1
    await shop.controller.tick()
    assert (shop.state(lease), shop.read(lease).cause) == (LeaseState.CLOSED, Cause.EXPIRED)
    assert shop.engine.containers == {}
    assert [call for call, _ in shop.engine.calls if "volume" in call] == []


async def test_a_server_without_gpus_has_no_end(shop: Workshop) -> None:
    lease = await shop.running(gpus=0)
    shop.uptime += 1000 * HOUR
    await shop.controller.tick()
    assert shop.state(lease) is LeaseState.RUNNING


@pytest.mark.parametrize("jump", [24 * HOUR, -24 * HOUR])
async def test_a_jump_of_the_wall_clock_frees_nothing(shop: Workshop, jump: float) -> None:
    lease = await shop.running()
    shop.wall_jump = jump
    await shop.controller.tick()
    await shop.restart_hub().reconcile()
    await shop.controller.tick()
    assert shop.state(lease) is LeaseState.RUNNING
    assert (lease.ends_at or 0.0) - shop.clock() == 24 * HOUR
    assert shop.clock.to_wall(lease.ends_at or 0.0) == 1000.0 + 24 * HOUR + jump


async def test_a_lease_is_extended_while_nobody_waits(shop: Workshop) -> None:
    lease = await shop.running()
    shop.uptime += 10 * HOUR
    extended = await shop.controller.extend(ALICE, "", 2.0)
    assert isinstance(extended, Lease)
    assert extended.ends_at == (lease.ends_at or 0.0) + 2 * HOUR
    assert (
        refused(await shop.controller.extend(replace(ALICE, name="bob"), "", 2.0)).reason
        is Reason.NO_LEASE
    )
    await shop.waiting("bob", 2)
    assert refused(await shop.controller.extend(ALICE, "", 2.0)).reason is Reason.OTHERS_WAIT


async def test_one_slow_end_delays_no_other(shop: Workshop) -> None:
    slow, quick = await shop.running("alice"), await shop.running("bob")
    shop.engine.plan("stop", Fault.HANG, subject=shop.container(slow))
    shop.uptime += 24 * HOUR
    await run_until(shop.controller.tick(), lambda: shop.state(quick) is LeaseState.CLOSED)
    assert shop.state(slow) is LeaseState.CLOSING


async def test_one_slow_end_delays_none_that_comes_later(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.controller.TICK_SECONDS", 0.01)
    began = shop.uptime
    slow = await shop.running("alice")
    shop.uptime += HOUR
    later = await shop.running("bob")
    shop.engine.plan("stop", Fault.HANG, subject=shop.container(slow))

    def is_later_closed() -> bool:
        if shop.state(slow) is LeaseState.CLOSING:
            shop.uptime = began + 25 * HOUR
        return shop.state(later) is LeaseState.CLOSED

    shop.uptime = began + 24 * HOUR
    await run_until(shop.controller.run(), is_later_closed)
    assert shop.state(slow) is LeaseState.CLOSING


async def test_confirming_a_lease_that_ended_meanwhile_is_said(shop: Workshop) -> None:
    lease = await shop.running()
    await shop.controller.confirm(lease.id)
    await shop.controller.release(lease.id, Cause.USER)
    with pytest.raises(LaunchError, match="ended while your server was starting"):
        await shop.controller.confirm(lease.id)
