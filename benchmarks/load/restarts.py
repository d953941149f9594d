"""A hub with a thousand servers, or a thousand people in the queue: what it costs to be idle, and to be killed."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.load.arrivals import fill, names
from benchmarks.load.clients import Plan
from benchmarks.load.figures import Row, Value
from benchmarks.load.load_env import LoadEnvironment

IDLE_SECONDS = 60.0
_SETTLE_SECONDS = 15.0
_PER_SECOND = 10.0
_GPUS = 8


async def running(folder: Path, people: int) -> list[Row]:
    """Start all servers, measure the idle hub, and kill it."""
    async with LoadEnvironment(folder, _GPUS) as env:
        filled = await fill(env, Plan(names(people), _PER_SECOND, 0), await env.alone(0))
        servers = len(env.engine.containers)
        idle = await idle_row(env, f"{servers} servers run, nobody does anything")
        env.engine.calls.clear()
        began, since = time.monotonic(), (folder / "hub.log").stat().st_size
        env.kill("hub")
        env.start_hub()
        await env.until_logged("Reconciled:", since)
        reconciled = time.monotonic() - began
        await env.until_hub_answers()
        answered = time.monotonic() - began
        await env.until_served(servers)
        served = time.monotonic() - began
        calls = [operation for operation, _ in env.engine.calls]
        figures: dict[str, Value] = {
            "reconciled_seconds": reconciled,
            "hub_answers_seconds": answered,
            "all_verified_seconds": served,
            "containers_stopped": calls.count("stop") + calls.count("delete"),
            "containers_left": len(env.engine.containers),
            "looks_at_docker_each": calls.count("inspect") / servers,
            "hub_cpu_seconds": env.usage().cpu_seconds,
            "findings_of_the_audit": len(await env.audit()),
        }
        return [filled, idle, Row(f"the hub is killed while {servers} servers run", figures)]


async def waiting(folder: Path, people: int) -> list[Row]:
    """Queue all users but a few, measure the idle hub, and kill it."""
    async with LoadEnvironment(folder, _GPUS) as env:
        filled = await fill(env, Plan(names(people), _PER_SECOND, 1), await env.alone(0))
        queue = env.waiting()
        idle = await idle_row(env, f"{len(queue)} people in the queue, no page open")
        env.engine.calls.clear()
        began, since = time.monotonic(), (folder / "hub.log").stat().st_size
        env.kill("hub")
        env.start_hub()
        await env.until_hub_answers()
        answered = time.monotonic() - began
        await env.until_logged("queue state=resumed", since)
        back = time.monotonic() - began
        calls = [operation for operation, _ in env.engine.calls]
        figures: dict[str, Value] = {
            "hub_answers_seconds": answered,
            "all_queued_again_seconds": back,
            "is_same_order": str(env.waiting() == queue),
            "containers_stopped": calls.count("stop") + calls.count("delete"),
            "hub_cpu_seconds": env.usage().cpu_seconds,
        }
        return [filled, idle, Row(f"the hub is killed while {len(queue)} wait", figures)]


async def watched_queue(folder: Path, people: int) -> list[Row]:
    """Keep the page of every queued user open; then the first servers end and the queue moves."""
    async with LoadEnvironment(folder, _GPUS) as env:
        await env.alone(0)
        plan = Plan(names(people), _PER_SECOND, 1, watches_queue=True)
        async with env.clients(plan):
            queued = len(env.waiting())
            idle = await idle_row(env, f"{queued} people in the queue, each with the page open")
            before, began = env.usage().cpu_seconds, time.monotonic()
            for container in list(env.engine.containers.values()):
                if container.body["Labels"]["workbench.gpus"]:
                    env.engine.end(container.name, 0)
            await env.until_waiting(queued - _GPUS)
            granted = time.monotonic() - began
            await env.until_quiet()
            figures: dict[str, Value] = {
                "next_granted_seconds": granted,
                "hub_cpu_milliseconds_per_place": 1e3 * (env.usage().cpu_seconds - before) / _GPUS,
                "seconds_until_quiet": time.monotonic() - began,
            }
            moved = Row(f"{_GPUS} servers end, and {queued} open pages are updated", figures)
        return [idle, moved]


async def idle_row(env: LoadEnvironment, title: str) -> Row:
    """Return what the hub costs while nothing happens."""
    await env.until_quiet()
    share = await env.share_of_a_core(IDLE_SECONDS)
    return Row(
        title,
        {
            "hub_percent_of_a_core": 100 * share,
            "hub_cpu_seconds_per_minute": 60 * share,
            "hub_most_memory_megabytes": env.usage().most_memory_bytes / 1e6,
        },
    )
