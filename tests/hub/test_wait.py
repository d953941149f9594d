"""Waiting: a pending spawn shows its position, starts by itself, and can be given up at any moment."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from spawner.hub.launch_slots import LaunchSlots
from spawner.hub.servers import resume_queue
from spawner.hub.views.queue import Viewer, build_wait_view
from spawner.model import Cause, Lease, LeaseState
from testing.eventually import eventually
from testing.fakes.docker_faults import Fault
from tests.hub.hub_env import HubEnvironment
from tests.hub.servers import follow_progress, lease_of, queued_users, start, stop, wait_in_queue

WHOLE_HOST = {"gpus": 2, "hours": 2}


@pytest.fixture
async def full(hub_env: HubEnvironment) -> HubEnvironment:
    """A hub whose two GPUs alice holds for two hours."""
    assert await start(hub_env, "alice", WHOLE_HOST) == (201, "")
    hub_env.be_brisk()
    return hub_env


async def test_who_finds_no_free_gpu_waits_and_starts_by_itself(full: HubEnvironment) -> None:
    await wait_in_queue(full, "bob", "carol")
    assert queued_users(full) == ["bob", "carol"]
    for name in ("bob", "carol"):
        assert full.user(name).spawner.pending == "spawn"
        assert lease_of(full, name).state is LeaseState.WAITING
    assert await stop(full, "alice") == 204
    for name in ("bob", "carol"):
        await eventually(partial(full.is_ready, name), f"{name}'s server runs")
        assert lease_of(full, name).state is LeaseState.RUNNING
    assert {lease.gpu_uuids for lease in full.live()} == {("GPU-0",), ("GPU-1",)}
    assert f"/user/{name}/" in full.hub.proxy.routes


async def test_a_server_without_gpus_never_waits(full: HubEnvironment) -> None:
    await wait_in_queue(full, "bob")
    assert (await start(full, "carol", {"gpus": 0}))[0] == 201


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"gpus": 3}, 400, ["asked for 3 GPUs", "has 2"]),
        ({"gpus": 1, "hours": 25}, 409, ["asked for 25 hours", "24 hours"]),
    ],
)
async def test_what_can_never_be_had_is_refused_at_once(
    full: HubEnvironment, body: dict[str, Any], status: int, words: list[str]
) -> None:
    answer, message = await start(full, "bob", body)
    assert answer == status
    for word in words:
        assert word in message
    assert full.leftovers("bob") == {}


async def test_the_stream_reports_place_and_estimate_and_then_the_steps(
    full: HubEnvironment,
) -> None:
    await wait_in_queue(full, "bob", gpus=2)
    await wait_in_queue(full, "carol")
    viewer = asyncio.create_task(follow_progress(full, "carol"))
    await eventually(lambda: full.user("carol").spawner._progress._steps, "carol was told")
    await stop(full, "bob")
    await eventually(lambda: queued_users(full) == ["carol"], "bob left")
    await asyncio.sleep(0.1)
    await stop(full, "alice")
    told = await asyncio.wait_for(viewer, 10)
    waits = [event for event in told if "waiting" in event]
    assert "Waiting for 1 GPU: position 2 of 2, about " in waits[0]["message"]
    first, last = waits[0]["waiting"], waits[-1]["waiting"]
    assert (first["position"], first["queue_length"], first["gpus"]) == (2, 2, 1)
    assert [(one["user"], one["gpus"], one["position"]) for one in first["ahead"]] == [
        ("bob", 2, 1)
    ]
    assert [(one["user"], one["gpus"]) for one in first["holders"]] == [("alice", 2)]
    assert first["starts_at"] > first["holders"][0]["ends_at"], "bob is served first"
    assert (last["position"], last["queue_length"], last["ahead"]) == (1, 1, [])
    messages = [event["message"] for event in told]
    assert "Got 1 GPU" in messages[messages.index(waits[-1]["message"]) + 1]
    assert told[-1]["ready"] is True


async def test_a_late_viewer_sees_only_the_position_now(full: HubEnvironment) -> None:
    await wait_in_queue(full, "bob", "carol", "dan")
    await stop(full, "bob")
    await stop(full, "carol")
    await eventually(lambda: queued_users(full) == ["dan"], "dan is the next")
    await stop(full, "alice")
    await eventually(lambda: full.user("dan").spawner.ready, "dan's server runs")
    steps = [step async for step in full.user("dan").spawner._progress.follow()]
    assert [step.queue_position.position for step in steps if step.queue_position is not None] == [
        1
    ]


async def test_a_viewer_sees_the_nearest_ahead_and_walks_no_whole_line(
    full: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.hub.views.queue.MAX_AHEAD_SHOWN", 2)
    await wait_in_queue(full, "bob", "carol", "dan", "erin")
    (erin,) = (entry for entry in full.controller.queue() if entry.lease.user == "erin")
    monkeypatch.setattr(full.controller, "queue", None)
    told = await build_wait_view(full.workbench, Viewer("erin", sees_names=True), erin.place)
    assert (told["position"], told["queue_length"], told["not_shown"]) == (4, 4, 1)
    assert [(one["user"], one["position"]) for one in told["ahead"]] == [("carol", 2), ("dan", 3)]
    assert await stop(full, "erin") == 204
    left = await build_wait_view(full.workbench, Viewer("erin", sees_names=True), erin.place)
    assert (left["gpus"], left["ahead"], left["not_shown"]) == (None, [], 0)


async def test_giving_up_leaves_the_line_and_nothing_is_claimed_afterwards(
    full: HubEnvironment,
) -> None:
    await wait_in_queue(full, "bob", "carol")
    lease = lease_of(full, "bob")
    stopping = asyncio.create_task(stop(full, "bob"))
    await eventually(lambda: queued_users(full) == ["carol"], "bob's place is gone", seconds=0.9)
    assert await stop(full, "alice") == 204
    await eventually(lambda: full.user("carol").spawner.ready, "carol moves up")
    assert await stopping == 204
    assert full.leftovers("bob") == {}
    closed = full.ledger.lease(lease.id)
    assert closed is not None
    assert (closed.state, closed.cause, closed.granted_at) == (LeaseState.CLOSED, Cause.USER, None)
    await start(full, "bob", {"gpus": 1})
    await eventually(lambda: full.user("bob").spawner.ready, "bob's next server runs")


async def test_a_turn_that_comes_while_its_user_gives_up_is_given_back(
    full: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_grant = full.controller.wait_for_grant
    has_turn, may_go_on = asyncio.Event(), asyncio.Event()

    async def dawdle(*args: Any) -> Lease | None:
        granted = await wait_for_grant(*args)
        has_turn.set()
        await may_go_on.wait()
        return granted

    monkeypatch.setattr(full.controller, "wait_for_grant", dawdle)
    await wait_in_queue(full, "bob")
    await stop(full, "alice")
    await asyncio.wait_for(has_turn.wait(), 10)
    assert lease_of(full, "bob").state is LeaseState.GRANTED
    await stop(full, "bob")
    await eventually(lambda: not full.live(), "the GPU is free again")
    assert full.leftovers("bob") == {}
    assert not [c for c in full.engine.containers if "-bob-" in c]


async def test_the_longest_wait_ends_outside_the_line(full: HubEnvironment) -> None:
    full.user("bob").spawner.start_timeout = 1
    await wait_in_queue(full, "bob")
    await eventually(lambda: not full.user("bob").spawner.active, "the hub's bound strikes")
    await eventually(lambda: queued_users(full) == [], "the place is gone")
    assert full.leftovers("bob") == {}


async def test_people_in_line_are_no_load_for_those_who_start(
    full: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    live_leases = full.ledger.live_leases

    def count() -> tuple[Lease, ...]:
        nonlocal reads
        reads += 1
        return live_leases()

    names = [f"user{i}" for i in range(40)]
    await asyncio.gather(*(start(full, name, {"gpus": 1}) for name in names))
    await eventually(lambda: len(queued_users(full)) == len(names), "all stand in line")
    monkeypatch.setattr("spawner.controller.controller.TICK_SECONDS", 60)
    monkeypatch.setattr("spawner.controller.queue.TICK_SECONDS", 60)
    await asyncio.sleep(0.5)  # the tick that was under way
    monkeypatch.setattr(full.ledger, "live_leases", count)
    calls = len(full.engine.calls)
    await asyncio.sleep(1.0)
    assert reads == 0
    assert not [subject for _, subject in full.engine.calls[calls:] if "-user" in subject]
    assert (await start(full, "zoe", {"gpus": 0}))[0] == 201


async def test_so_many_containers_are_brought_up_at_once_and_no_more(
    hub_env: HubEnvironment,
) -> None:
    hub_env.workbench.launch_slots = LaunchSlots(1)
    hub_env.be_brisk()
    hub_env.servers.is_mute = True
    assert (await start(hub_env, "alice", {"gpus": 0}))[0] == 202
    assert (await start(hub_env, "bob", {"gpus": 0}))[0] == 202
    assert len(hub_env.engine.containers) == 1
    hub_env.servers.is_mute = False
    await eventually(lambda: hub_env.user("bob").spawner.ready, "bob's server runs")


async def test_after_a_restart_everyone_keeps_their_position(full: HubEnvironment) -> None:
    names = ("bob", "carol+1@lab.example", "dan")
    await wait_in_queue(full, *names)
    before = [entry.lease.id for entry in full.controller.queue()]
    tokens = {name: server_tokens(full, name) for name in names}
    await full.close_hub()
    assert [lease.state for lease in full.live()].count(LeaseState.WAITING) == 3
    await full.open_hub()
    full.be_brisk()
    for name in names:
        await eventually(partial(full.is_pending, name), f"{name} waits again")
    assert [entry.lease.id for entry in full.controller.queue()] == before
    for name, old in tokens.items():
        await eventually(partial(has_one_token, full, name), f"{name} has one token")
        assert server_tokens(full, name) != old, "the token of the spawn that ended is revoked"
    assert full.user("alice").spawner.ready
    await stop(full, "alice")
    await eventually(lambda: full.user("bob").spawner.ready, "bob's turn")
    await eventually(lambda: full.user(names[1]).spawner.ready, "carol's turn")
    assert queued_users(full) == ["dan"]


async def test_an_agent_that_is_silent_at_the_restart_costs_no_one_their_place(
    full: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume_queue, "TRIES", 3)
    await wait_in_queue(full, "bob")
    place = lease_of(full, "bob")
    await full.close_hub()
    full.agent.is_silent = True
    await full.open_hub()
    await asyncio.sleep(10 * resume_queue.RETRY_SECONDS)  # a wrong start would have come by now
    full.agent.is_silent = False
    await eventually(lambda: full.user("bob").spawner.pending == "spawn", "bob waits again")
    assert lease_of(full, "bob").id == place.id


def has_one_token(hub_env: HubEnvironment, name: str) -> bool:
    return len(server_tokens(hub_env, name)) == 1


def server_tokens(hub_env: HubEnvironment, name: str) -> list[int]:
    return [t.id for t in hub_env.user(name).orm_user.api_tokens if t.note.startswith("Server at")]


async def test_a_turn_that_comes_while_the_hub_is_away_is_not_lost(full: HubEnvironment) -> None:
    await wait_in_queue(full, "bob")
    await full.close_hub()
    full.engine.containers.clear()  # alice's server ends meanwhile
    await full.open_hub()
    await eventually(lambda: full.user("bob").spawner.ready, "bob's server runs")
    assert [lease.user for lease in full.live()] == ["bob"]


async def test_a_bring_up_that_a_hub_did_not_finish_is_begun_again_by_the_next(
    full: HubEnvironment,
) -> None:
    await wait_in_queue(full, "bob", "carol")
    full.servers.is_mute = True
    await stop(full, "alice")
    await eventually(lambda: len(full.engine.containers) == 2, "both are being brought up")
    for container in full.engine.containers.values():
        container.started_at = datetime.now(UTC).isoformat()
    requested = lease_of(full, "bob").requested_at
    await full.close_hub()
    full.servers.is_mute = False
    await full.open_hub()
    for name in ("bob", "carol"):
        await eventually(partial(full.is_ready, name), f"{name}'s server runs")
    assert lease_of(full, "bob").requested_at == requested
    assert len(full.engine.containers) == 2


async def test_a_server_that_answered_just_as_its_hub_ended_is_begun_again(
    full: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(_: str) -> None:
        await asyncio.Event().wait()

    await wait_in_queue(full, "bob", gpus=2)
    monkeypatch.setattr(
        full.controller, "confirm", die
    )  # the hub's state is written, the ledger's not
    await stop(full, "alice")
    await eventually(lambda: "lease_id" in full.user("bob").spawner.orm_spawner.state, "it answers")
    before = lease_of(full, "bob")
    assert before.state is LeaseState.GRANTED
    (container,) = full.engine.containers.values()
    container.started_at = datetime.now(UTC).isoformat()
    await full.close_hub()
    await full.open_hub()
    await eventually(lambda: lease_of(full, "bob").state is LeaseState.RUNNING, "it runs again")
    await eventually(lambda: full.user("bob").spawner.ready, "the hub knows")
    assert lease_of(full, "bob").requested_at == before.requested_at
    assert len(full.engine.containers) == 1


async def test_a_user_who_was_deleted_meanwhile_leaves_the_line(full: HubEnvironment) -> None:
    await wait_in_queue(full, "bob", "carol")
    await full.close_hub()
    await full.open_hub(is_running=False)
    full.hub.users.delete(full.user("bob"))
    full.start_beside()
    await eventually(lambda: queued_users(full) == ["carol"], "bob is gone")
    await eventually(lambda: full.user("carol").spawner.pending == "spawn", "carol waits again")


async def test_who_gives_up_while_the_hub_takes_them_up_again_stays_out(
    full: HubEnvironment,
) -> None:
    await wait_in_queue(full, "bob", "carol")
    await full.close_hub()
    await full.open_hub()
    await eventually(lambda: full.user("bob").spawner.pending == "spawn", "bob waits again")
    assert await stop(full, "bob") == 204
    await asyncio.sleep(10 * resume_queue.RETRY_SECONDS)  # a wrong start would have come by now
    assert queued_users(full) == ["carol"]
    assert full.leftovers("bob") == {}


async def test_an_admin_can_delete_who_waits(full: HubEnvironment) -> None:
    await wait_in_queue(full, "bob", "carol")
    async with full.client("root", is_admin=True) as client:
        answer = await client.delete("/hub/api/users/bob")
    assert answer.status_code == 204, answer.text
    await eventually(lambda: queued_users(full) == ["carol"], "bob is gone")


async def test_asking_twice_is_asking_once(full: HubEnvironment) -> None:
    await wait_in_queue(full, "bob")
    assert (await start(full, "bob", {"gpus": 2}))[0] == 202
    assert lease_of(full, "bob").gpu_count == 1
    assert queued_users(full) == ["bob"]


async def test_a_docker_that_fails_at_the_turn_gives_the_gpu_to_the_next(
    full: HubEnvironment,
) -> None:
    await wait_in_queue(full, "bob", gpus=2)
    await wait_in_queue(full, "carol", gpus=2)
    full.engine.plan("create", Fault.ERROR)
    await stop(full, "alice")
    await eventually(lambda: full.user("carol").spawner.ready, "carol's server runs")
    assert full.leftovers("bob") == {}
