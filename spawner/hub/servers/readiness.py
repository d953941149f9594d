"""Waiting for a started server to answer.

Knocks so often that waiting costs nothing, and gives up at once when the container has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import jupyterhub

from spawner.containers import ContainerStatus
from spawner.model import Unknown

PROBE_INTERVAL_SECONDS = 0.025
CONNECT_SECONDS = 1.0
LOOK_SECONDS = 0.5


async def wait_until_open(host: str, port: int, check_alive: Callable[[], Awaitable[None]]) -> None:
    """Return when ``host:port`` accepts a connection; ``check_alive`` raises when it never will.

    Has no bound of its own. Nobody knowing whether the container lives (Unknown) is no reason to give up.
    """
    clock = asyncio.get_running_loop().time
    look_at = clock() + LOOK_SECONDS
    while not await _is_open(host, port):
        if clock() >= look_at:
            with contextlib.suppress(Unknown):
                await check_alive()
            look_at = clock() + LOOK_SECONDS
        await asyncio.sleep(PROBE_INTERVAL_SECONDS)


async def assume_up(**_: object) -> SimpleNamespace:
    """Return at once what a server of this hub's release would answer, however it fares."""
    return SimpleNamespace(headers={"X-JupyterHub-Version": jupyterhub.__version__})


async def _is_open(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    return True


def format_exit(status: ContainerStatus | None, log_tail: str) -> str:
    """Return one sentence about a container that ended, or vanished (None), before it answered."""
    if status is None:
        return "Your server's container vanished before it answered: try again, or tell an admin."
    if status.oom_killed:
        return "Your server ran out of memory while it started: tell an admin."
    last = log_tail.splitlines()[-1:]
    said = f" Its last words: {last[0].strip()}" if last else ""
    return (
        f"Your server's container ended (exit code {status.exit_code}) before it answered: "
        f"tell an admin.{said}"
    )
