"""One call of Docker takes half a minute: how much later all other servers are ready."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from benchmarks.load.clients import Plan
from benchmarks.load.figures import Row, Value, describe_times, times_of
from benchmarks.load.load_env import LoadEnvironment
from testing.eventually import eventually
from testing.fakes.docker_faults import Fault

OPERATIONS = ("create", "start", "stop", "inspect")
SLOW_SECONDS = 30.0
_OTHERS = 40
_PER_SECOND = 4.0


async def compare(folder: Path, _: int) -> list[Row]:
    """Return the others' times without a slow call, and with one of each kind."""
    async with LoadEnvironment(folder, 8) as env:
        await env.alone(0)
        usual = await others(env, "usual")
        rows = [Row("no call is slow", describe_times("click_to_ready", usual))]
        for operation in OPERATIONS:
            env.engine.plan(operation, Fault.LATE)
            one = asyncio.create_task(slow_one(env, operation))
            await eventually(lambda: bool(env.engine.faults.held), f"a {operation} hangs")
            began = time.monotonic()
            slowed = await others(env, operation)
            await asyncio.sleep(began + SLOW_SECONDS - time.monotonic())
            env.engine.release()
            await one
            await eventually(lambda: not env.engine.faults.held, f"the {operation} ends")
            figures = describe_times("click_to_ready", slowed)
            delay = max(slowed) - max(usual)
            rows.append(
                Row(
                    f"one {operation} takes {SLOW_SECONDS:g} s",
                    {**figures, "worst_delay_of_others_seconds": delay, **over(slowed, usual)},
                )
            )
        return rows


def over(slowed: list[float], usual: list[float]) -> dict[str, Value]:
    """Return the ratio of the medians."""
    middle = len(usual) // 2
    return {"median_over_usual": sorted(slowed)[middle] / sorted(usual)[middle]}


async def others(env: LoadEnvironment, name: str) -> list[float]:
    """Return the times of some people who start a server now."""
    plan = Plan([f"{name}{number}" for number in range(_OTHERS)], _PER_SECOND, 0)
    async with env.clients(plan) as told:
        assert not any(visit["trouble"] for visit in told["visits"]), told
        return times_of(told["visits"], "ready_seconds")


async def slow_one(env: LoadEnvironment, operation: str) -> None:
    """Be the one whose call is slow; how it ends for them does not matter here."""
    async with env.clients(Plan([f"slow-{operation}"], None, 0)):
        pass
