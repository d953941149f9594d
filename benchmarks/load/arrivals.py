"""People come, log in and start servers: how long it takes them, and what it costs the hub."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import bcrypt
import httpx

from benchmarks.load.clients import Plan
from benchmarks.load.figures import Row, describe_times, times_of
from benchmarks.load.load_env import LoadEnvironment
from testing.people import URL

LOG_INS = 100
_PASSWORD = "a long enough one"  # noqa: S105 - of people who exist for a minute
_MEGABYTE = 1e6


def names(people: int) -> list[str]:
    """Return so many users."""
    return [f"user{number:04}" for number in range(people)]


def arrive(
    *, gpus: int, inventory: int, per_second: float | None, fills_form: bool = True
) -> Callable[[Path, int], Awaitable[list[Row]]]:
    """Return the part in which everyone asks for ``gpus`` of the ``inventory``."""

    async def part(folder: Path, people: int) -> list[Row]:
        async with LoadEnvironment(folder, inventory) as env:
            alone = await env.alone(0)
            plan = Plan(names(people), per_second, gpus, fills_form=fills_form)
            return [await fill(env, plan, alone)]

    return part


async def fill(env: LoadEnvironment, plan: Plan, alone: float) -> Row:
    """Run the clients of ``plan`` and return what they found."""
    before = {name: env.usage(name).cpu_seconds for name in ("hub", "broker", "proxy")}
    async with env.clients(plan) as told:
        return describe_visits(env, plan, told, alone, before)


def describe_visits(
    env: LoadEnvironment,
    plan: Plan,
    told: Mapping[str, Any],
    alone: float,
    before: Mapping[str, float],
) -> Row:
    """Return the figures of clients whose start alone takes ``alone`` seconds; ``before`` is CPU time then."""
    visits: Sequence[Mapping[str, Any]] = told["visits"]
    statuses = Counter(status for visit in visits for status in visit["statuses"])
    troubles = Counter(visit["trouble"] for visit in visits if visit["trouble"])
    ready = describe_times("click_to_ready", times_of(visits, "ready_seconds"))
    p95 = ready.get("click_to_ready_p95_seconds")
    pace = "all at once" if plan.per_second is None else f"{plan.per_second:g} per second"
    return Row(
        f"{len(visits)} people, {plan.gpus} GPU each, {pace}",
        {
            "answers_5xx": sum(n for status, n in statuses.items() if status >= 500),
            "answers": sum(statuses.values()),
            "troubles": "; ".join(f"{n} x {what}" for what, n in troubles.most_common(3)) or 0,
            "alone_click_to_ready_seconds": alone,
            **ready,
            "p95_over_alone": None if p95 is None else float(str(p95)) / alone,
            **describe_times("click_to_queue", times_of(visits, "queued_seconds")),
            **describe_times("form", times_of(visits, "form_seconds")),
            **describe_times("log_in", times_of(visits, "log_in_seconds")),
            "all_clients_seconds": told["seconds"],
            **{
                f"{name}_cpu_seconds": env.usage(name).cpu_seconds - used
                for name, used in before.items()
            },
            "hub_cpu_milliseconds_each": 1e3
            * (env.usage().cpu_seconds - before["hub"])
            / len(visits),
            "hub_most_memory_megabytes": env.usage().most_memory_bytes / _MEGABYTE,
        },
    )


async def log_in(folder: Path, _: int) -> list[Row]:
    """Log in with passwords, which cost a quarter of a second of a core each, while others look at a page."""
    async with LoadEnvironment(folder, 8, AUTHENTICATOR="native") as env:
        approve(folder / "data/jupyterhub.sqlite", names(LOG_INS))
        before = env.usage().cpu_seconds
        plan = Plan(names(LOG_INS), None, None, password=_PASSWORD)
        quiet = await time_pages_until(asyncio.create_task(asyncio.sleep(5)))
        clients = asyncio.create_task(_run_clients(env, plan))
        busy = await time_pages_until(clients)
        told = clients.result()
        failed = sum(visit["trouble"] is not None for visit in told["visits"])
        return [
            Row(
                f"{LOG_INS} people log in with a password at once",
                {
                    "failed": failed,
                    "log_ins_per_second": LOG_INS / told["seconds"],
                    "hub_cpu_milliseconds_each": 1e3 * (env.usage().cpu_seconds - before) / LOG_INS,
                    **describe_times("log_in", times_of(told["visits"], "log_in_seconds")),
                    **describe_times("other_page_meanwhile", busy),
                    **describe_times("other_page_before", quiet),
                },
            )
        ]


async def _run_clients(env: LoadEnvironment, plan: Plan) -> dict[str, Any]:
    async with env.clients(plan) as told:
        return told


def approve(database: Path, people: Sequence[str]) -> None:
    """Let everyone have signed up with the one password, and an admin have approved them."""
    hashed = bcrypt.hashpw(_PASSWORD.encode(), bcrypt.gensalt())
    rows = [(name, hashed, True, "", False, secrets.token_hex(8)) for name in people]
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
        connection.executemany(
            "INSERT INTO users_info (username, password, is_authorized, email, has_2fa, otp_secret)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            rows,
        )
        connection.commit()


async def time_pages_until(task: asyncio.Task[Any]) -> list[float]:
    """Return how long the log-in page took, again and again, until ``task`` is done."""
    seconds = []
    async with httpx.AsyncClient(base_url=URL, timeout=60) as client:
        while not task.done():
            began = time.monotonic()
            (await client.get("/hub/login")).raise_for_status()
            seconds.append(time.monotonic() - began)
            await asyncio.sleep(0.1)
    return seconds
