"""The steps of a spawn reach every viewer, early or late, and end."""

import asyncio
from typing import Any

import pytest

from spawner.hub.servers.progress import Progress
from spawner.model import QueuePosition
from testing.eventually import eventually
from tests.hub.hub_env import HubEnvironment
from tests.hub.servers import follow_progress


async def collect(progress: Progress) -> list[tuple[int, str, float]]:
    return [(s.percent, s.message, s.elapsed_seconds) async for s in progress.follow()]


async def test_early_and_late_viewers_see_the_same_and_end() -> None:
    now = 100.0
    progress = Progress(clock=lambda: now)
    early = asyncio.create_task(collect(progress))
    await asyncio.sleep(0)
    progress.report(10, "first")
    now = 101.5
    progress.report(20, "second")
    middle = asyncio.create_task(collect(progress))
    await asyncio.sleep(0)
    progress.report(30, "third")
    progress.finish()
    expected = [(10, "first", 0.0), (20, "second", 1.5), (30, "third", 1.5)]
    assert await asyncio.wait_for(early, 1) == expected
    assert await asyncio.wait_for(middle, 1) == expected
    assert await asyncio.wait_for(collect(progress), 1) == expected


async def test_of_a_wait_only_the_place_now_is_kept_and_live_viewers_see_every_one() -> None:
    progress = Progress(clock=lambda: 1.0)
    live = asyncio.create_task(collect(progress))
    await asyncio.sleep(0)
    progress.report(10, "before")
    for position in (3, 2, 1):
        progress.report_position(f"place {position}", QueuePosition("x", position, 2, None))
        await asyncio.sleep(0)
    progress.report(10, "after")
    progress.finish()
    late = [message for _, message, _ in await asyncio.wait_for(collect(progress), 1)]
    assert late == ["before", "place 1", "after"]
    early = [message for _, message, _ in await asyncio.wait_for(live, 1)]
    assert early == ["before", "place 3", "place 2", "place 1", "after"]


async def test_two_viewers_see_every_real_step_of_a_start(hub_env: HubEnvironment) -> None:
    hub_env.servers.is_mute = True
    async with hub_env.client("alice") as client:
        starting = asyncio.create_task(client.post("/hub/api/users/alice/server", json={"gpus": 2}))
        await eventually(lambda: hub_env.engine.containers, "the container exists")
        viewers = [asyncio.create_task(follow_progress(hub_env, "alice")) for _ in range(2)]
        await asyncio.sleep(0.2)
        hub_env.servers.is_mute = False
        first, second = await asyncio.gather(*viewers)
        await starting
    assert first == second
    messages = [event["message"] for event in first]
    assert "Got 2 GPUs (GPU 0: NVIDIA A100-SXM4-80GB (simulated), GPU 1: " in messages[1]
    steps = ["home folder", "Creating", "Starting", "Waiting for JupyterLab", "answers"]
    for step, message in zip(steps, messages[2:], strict=False):
        assert step in message
    assert [e["progress"] for e in first] == sorted(e["progress"] for e in first)
    elapsed = [event["elapsed_seconds"] for event in first if "elapsed_seconds" in event]
    assert elapsed == sorted(elapsed)
    assert first[-1]["ready"] is True


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_failure_ends_the_stream_with_its_sentence(
    hub_env: HubEnvironment, is_late: bool
) -> None:
    hub_env.servers.is_mute = True
    async with hub_env.client("alice") as client:
        starting = asyncio.create_task(client.post("/hub/api/users/alice/server", json={"gpus": 1}))

        def started() -> Any:
            return [c for c in hub_env.engine.containers.values() if c.is_running]

        (container,) = await eventually(started, "the container runs")
        viewer = None if is_late else asyncio.create_task(follow_progress(hub_env, "alice"))
        await asyncio.sleep(0.1)
        container.exit_code, container.is_running = 3, False
        await starting
        last = (await (viewer or follow_progress(hub_env, "alice")))[-1]
    assert last["failed"] is True
    assert last["message"].startswith(
        "Spawn failed: Your server ended before it was ready (exit code 3)"
    )
