"""The queue in motion: waits, positions, grants that are claimed and grants that are not."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from spawner.model import (
    Cause,
    Granted,
    Lease,
    LeaseState,
    Options,
    QueuePosition,
    Reason,
    Refused,
    Request,
    Unknown,
)
from spawner.policy.queue import QueuePlan
from testing.eventually import eventually
from testing.factories import GPU_0, GPU_1, make_request
from tests.unit.controller_env import BEGAN_AT, ControllerEnvironment, run_until

HOUR = 3600.0
MINUTE = 60.0


class Waiter:
    """One pending spawn: it awaits its grant and records every position."""

    def __init__(self, controller_env: ControllerEnvironment, lease: Lease) -> None:
        self.told: list[tuple[int, int, float | None]] = []
        self.task = asyncio.create_task(
            controller_env.controller.wait_for_grant(lease.id, self.record_position)
        )

    def record_position(self, place: QueuePosition) -> None:
        self.told.append((place.position, place.queue_length, place.starts_at))


async def test_a_hundred_requests_at_once_get_two_gpus_and_ninety_eight_places(
    controller_env: ControllerEnvironment,
) -> None:
    requests = [make_request(f"user{i}") for i in range(100)]
    answers = await asyncio.gather(*map(controller_env.controller.acquire, requests))
    held = [a.lease.gpu_uuids for a in answers if isinstance(a, Granted)]
    assert sorted(held) == [(GPU_0,), (GPU_1,)]
    assert len(controller_env.controller.queue()) == 98


async def test_a_place_is_taken_without_the_agent_and_a_grant_waits_for_it(
    controller_env: ControllerEnvironment,
) -> None:
    controller_env.host.may_answer.clear()
    asking = asyncio.create_task(controller_env.controller.acquire(make_request("alice")))
    await eventually(lambda: len(controller_env.ledger.live_leases()) == 1)
    (lease,) = controller_env.ledger.live_leases()
    assert lease.state is LeaseState.WAITING
    controller_env.host.may_answer.set()
    assert isinstance(await asyncio.wait_for(asking, 30), Granted)


async def test_the_next_in_line_starts_by_itself(controller_env: ControllerEnvironment) -> None:
    holder = await controller_env.running("alice", 2)
    first, second = await controller_env.waiting("bob", 2), await controller_env.waiting("carol")
    bob, carol = Waiter(controller_env, first), Waiter(controller_env, second)
    await eventually(lambda: bool(bob.told and carol.told))
    ends_at = holder.ends_at or 0.0
    assert bob.told == [(1, 2, ends_at)]
    assert carol.told == [(2, 2, ends_at + 24 * HOUR)]

    loop = asyncio.create_task(controller_env.controller.run())
    await controller_env.controller.release(holder.id, Cause.USER)
    granted = await asyncio.wait_for(bob.task, 5)
    assert granted is not None
    assert (granted.id, granted.gpu_uuids) == (first.id, (GPU_0, GPU_1))
    # an estimate that moved while alice's server was closing may have been reported in between
    await eventually(lambda: carol.told[-1][:2] == (1, 1))
    for task in (loop, carol.task):
        task.cancel()


async def test_a_known_position_is_not_reported_again(
    controller_env: ControllerEnvironment,
) -> None:
    await controller_env.running("alice", 2)
    waiter = Waiter(controller_env, await controller_env.waiting("bob"))
    await eventually(lambda: len(waiter.told) == 1)
    for _ in range(3):
        await controller_env.controller.leases_without_spawn()  # moves the line
    await controller_env.waiting("carol", 2)
    await asyncio.sleep(0)
    assert len(waiter.told) == 1
    waiter.task.cancel()


async def test_a_thousand_who_wait_share_one_plan_per_move(
    controller_env: ControllerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = await controller_env.running("alice", 2)
    plans = []
    advance = controller_env.ledger.advance

    def counted(plan: object, *, now: float) -> object:
        plans.append(now)
        return advance(plan, now=now)  # type: ignore[arg-type]

    monkeypatch.setattr(controller_env.ledger, "advance", counted)
    requests = [make_request(f"user{i}") for i in range(300)]
    leases = await asyncio.gather(*map(controller_env.controller.acquire, requests))
    assert len(plans) < 100, "those who come while one is under way share the next"
    waiters = [Waiter(controller_env, a.lease) for a in leases if not isinstance(a, Refused)]
    await eventually(lambda: all(waiter.told for waiter in waiters))
    plans.clear()
    await controller_env.controller.release(holder.id, Cause.USER)
    await run_until(
        controller_env.controller.run(), lambda: sum(w.task.done() for w in waiters) == 2
    )
    assert len(plans) <= 3
    for waiter in waiters:
        waiter.task.cancel()


async def test_who_gives_up_leaves_the_line(controller_env: ControllerEnvironment) -> None:
    await controller_env.running("alice", 2)
    waiter = Waiter(controller_env, await controller_env.waiting("bob"))
    behind = Waiter(controller_env, await controller_env.waiting("carol"))
    await eventually(lambda: bool(waiter.told and behind.told))
    assert await controller_env.controller.give_up("bob", "") is True
    await run_until(controller_env.controller.run(), lambda: waiter.task.done())
    assert waiter.task.result() is None
    await eventually(lambda: behind.told[-1][0] == 1)
    behind.task.cancel()


async def test_who_gives_up_at_the_last_moment_gives_the_gpus_back(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await controller_env.granted("bob")
    assert await controller_env.controller.give_up("bob", "") is True
    assert controller_env.state(lease) is LeaseState.CLOSED


async def test_a_turn_that_came_before_anyone_awaited_it_is_not_missed(
    controller_env: ControllerEnvironment,
) -> None:
    holder = await controller_env.running("alice", 2)
    lease = await controller_env.waiting("bob")
    await controller_env.controller.release(holder.id, Cause.USER)
    await controller_env.controller.leases_without_spawn()
    granted = await asyncio.wait_for(
        controller_env.controller.wait_for_grant(lease.id, lambda *_: None), 5
    )
    assert granted is not None
    assert granted.state is LeaseState.GRANTED


async def test_a_server_without_gpus_passes_everyone(
    controller_env: ControllerEnvironment,
) -> None:
    await controller_env.running("alice", 2)
    await controller_env.waiting("bob")
    assert (await controller_env.acquire("bob", 0, server="cpu")).state is LeaseState.GRANTED


async def test_a_gpu_that_fell_ill_is_not_granted(
    controller_env: ControllerEnvironment,
) -> None:
    controller_env.host.lose(0)
    assert (await controller_env.granted("alice")).gpu_uuids == (GPU_1,)
    await controller_env.waiting("bob", 1)


async def test_a_silent_agent_stops_the_line_and_nothing_else(
    controller_env: ControllerEnvironment,
) -> None:
    holder = await controller_env.running("alice", 2)
    lease = await controller_env.waiting("bob")
    controller_env.host.is_silent = True
    await controller_env.controller.release(holder.id, Cause.USER)
    assert [lease.id for lease in await controller_env.controller.leases_without_spawn()] == []
    assert controller_env.state(lease) is LeaseState.WAITING
    assert controller_env.in_line() == ["bob"]


async def test_a_ledger_that_does_not_answer_for_a_while_loses_no_one(
    controller_env: ControllerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.queue.RETRY_SECONDS", 0.01)
    holder = await controller_env.running("alice", 2)
    waiter = Waiter(controller_env, await controller_env.waiting("bob"))
    await eventually(lambda: bool(waiter.told))
    await controller_env.controller.release(holder.id, Cause.USER)
    failures = iter([Unknown("locked")] * 3)
    lease = controller_env.ledger.lease

    def fails(lease_id: str) -> Lease | None:
        for failure in failures:
            raise failure
        return lease(lease_id)

    monkeypatch.setattr(controller_env.ledger, "lease", fails)
    await run_until(controller_env.controller.run(), lambda: waiter.task.done())
    assert waiter.task.result() is not None


async def test_the_line_runs_on_after_an_unknown(
    controller_env: ControllerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.queue.RETRY_SECONDS", 0.01)
    holder = await controller_env.running("alice", 2)
    lease = await controller_env.waiting("bob")
    failures = iter([Unknown("locked")])
    advance = controller_env.ledger.advance

    def fails(plan: object, *, now: float) -> tuple[Lease, ...]:
        for failure in failures:
            raise failure
        return advance(plan, now=now)  # type: ignore[arg-type]

    await controller_env.controller.release(holder.id, Cause.USER)
    monkeypatch.setattr(controller_env.ledger, "advance", fails)
    await run_until(
        controller_env.controller.run(), lambda: controller_env.state(lease) is LeaseState.GRANTED
    )


# --- the turn of those who are away


async def grant_late(controller_env: ControllerEnvironment) -> Lease:
    """Return bob's running lease: his turn came an hour after he asked."""
    holder = await controller_env.running("alice", 2)
    lease = await controller_env.waiting("bob")
    controller_env.uptime += HOUR
    await controller_env.controller.release(holder.id, Cause.USER)
    await controller_env.controller.leases_without_spawn()
    return await controller_env.launch(controller_env.read(lease))


async def test_a_server_that_no_one_opens_goes_to_the_next(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await grant_late(controller_env)
    controller_env.uptime += 20 * MINUTE - 1
    await controller_env.controller.tick()
    assert controller_env.state(lease) is LeaseState.RUNNING
    controller_env.uptime += 1
    await controller_env.controller.tick()
    assert (controller_env.state(lease), controller_env.read(lease).cause) == (
        LeaseState.CLOSED,
        Cause.UNCLAIMED,
    )


async def test_who_came_keeps_it(controller_env: ControllerEnvironment) -> None:
    lease = await grant_late(controller_env)
    await controller_env.controller.mark_claimed(lease.id)
    await controller_env.controller.mark_claimed(lease.id)
    controller_env.uptime += HOUR
    await controller_env.controller.tick()
    assert controller_env.state(lease) is LeaseState.RUNNING


async def test_a_hub_that_was_away_first_checks_for_the_user(
    controller_env: ControllerEnvironment,
) -> None:
    lease = await grant_late(controller_env)
    controller_env.uptime += HOUR
    await controller_env.restart_hub().reconcile()
    await controller_env.controller.tick()
    assert controller_env.state(lease) is LeaseState.RUNNING
    controller_env.uptime += 20 * MINUTE
    await controller_env.controller.tick()
    assert controller_env.state(lease) is LeaseState.CLOSED


async def test_who_did_not_have_to_wait_is_there(controller_env: ControllerEnvironment) -> None:
    lease = await controller_env.running("alice")
    controller_env.uptime += HOUR
    await controller_env.controller.tick()
    assert controller_env.state(lease) is LeaseState.RUNNING


# --- after the hub's end


async def test_the_line_survives_the_hub(controller_env: ControllerEnvironment) -> None:
    await controller_env.running("alice", 2)
    line = [await controller_env.waiting(user) for user in ("dora", "bob", "carol")]
    await controller_env.restart_hub().reconcile()
    lost = await controller_env.controller.leases_without_spawn()
    assert [lease.id for lease in lost] == [lease.id for lease in line]
    for lease in lost:
        again = await controller_env.controller.acquire(
            Request(lease.user, lease.server, Options(lease.release, lease.gpu_count), lease.user)
        )
        assert not isinstance(again, Refused)
        assert again.lease.id == lease.id
    assert await controller_env.controller.leases_without_spawn() == ()
    assert controller_env.in_line() == ["dora", "bob", "carol"]


async def test_a_turn_that_came_while_no_spawn_awaited_it_is_there_for_it(
    controller_env: ControllerEnvironment,
) -> None:
    holder = await controller_env.running("alice", 2)
    lease = await controller_env.waiting("bob")
    await controller_env.restart_hub().reconcile()
    await controller_env.controller.release(holder.id, Cause.USER)
    (lost,) = await controller_env.controller.leases_without_spawn()
    assert (lost.id, lost.state) == (lease.id, LeaseState.GRANTED)
    granted = await controller_env.granted("bob")
    assert granted.id == lease.id
    assert (await controller_env.launch(granted)).state is LeaseState.RUNNING


async def test_a_start_that_died_with_the_hub_keeps_its_place(
    controller_env: ControllerEnvironment,
) -> None:
    died = await controller_env.granted("alice", 2)
    controller_env.uptime += 1
    await controller_env.waiting("bob", 2)
    await controller_env.restart_hub().reconcile()
    assert controller_env.read(died).cause is Cause.INTERRUPTED
    first, second = await controller_env.controller.leases_without_spawn()
    assert (first.user, first.state, first.gpu_uuids) == (
        "alice",
        LeaseState.GRANTED,
        (GPU_0, GPU_1),
    )
    assert first.requested_at == died.requested_at == BEGAN_AT
    assert (second.user, second.state) == ("bob", LeaseState.WAITING)


async def test_what_the_next_server_needs_is_not_what_the_last_one_left(
    controller_env: ControllerEnvironment,
) -> None:
    await controller_env.running("alice", 2)
    waiting = await controller_env.waiting("bob")
    impossible = await controller_env.controller.acquire(make_request("bob", 3))
    assert isinstance(impossible, Refused)
    assert impossible.reason is Reason.NOT_ENOUGH_GPUS
    assert controller_env.state(waiting) is LeaseState.WAITING


async def test_the_plan_sees_the_use_of_everyone(
    controller_env: ControllerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Mapping[int, float]] = []

    def plan_nothing(
        waiting: Sequence[Lease], *, recent_gpu_hours: Mapping[int, float], **_: object
    ) -> QueuePlan:
        seen.append(recent_gpu_hours)
        return QueuePlan({}, {None: [lease.id for lease in waiting]}, {})

    lease = await controller_env.running("alice")
    controller_env.uptime += HOUR
    await controller_env.controller.release(lease.id, Cause.USER)
    monkeypatch.setattr("spawner.controller.queue.plan_queue", plan_nothing)
    await controller_env.waiting("bob")
    assert 0.9 < seen[-1][lease.uid] <= 1.0
