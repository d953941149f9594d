"""Readiness: waits until a started server accepts connections.

It probes often enough to add no visible delay, and stops at once when the container has ended.
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
ALIVE_CHECK_SECONDS = 0.5


async def wait_until_open(host: str, port: int, check_alive: Callable[[], Awaitable[None]]) -> None:
    """Return when ``host:port`` accepts a connection; ``check_alive`` raises when the container has ended.

    The caller sets the time limit. An unknown state of the container (Unknown) does not end the wait.
    """
    clock = asyncio.get_running_loop().time
    check_at = clock() + ALIVE_CHECK_SECONDS
    while not await _is_open(host, port):
        if clock() >= check_at:
            with contextlib.suppress(Unknown):
                await check_alive()
            check_at = clock() + ALIVE_CHECK_SECONDS
        await asyncio.sleep(PROBE_INTERVAL_SECONDS)


async def assume_up(**_: object) -> SimpleNamespace:
    """Return the answer of a server of this JupyterHub release without a request."""
    return SimpleNamespace(headers={"X-JupyterHub-Version": jupyterhub.__version__})


async def _is_open(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # includes TimeoutError
        return False
    writer.close()
    return True


def format_exit(status: ContainerStatus | None, log_tail: str) -> str:
    """Return one sentence about a container that ended or disappeared (None) before it answered."""
    if status is None:
        return "Your server disappeared before it was ready: start it again, or tell an admin."
    if status.oom_killed:
        return "Your server ran out of memory while it started: tell an admin."
    last = log_tail.splitlines()[-1:]
    output = f" Its last output: {last[0].strip()}" if last else ""
    return (
        f"Your server ended before it was ready (exit code {status.exit_code}): "
        f"tell an admin.{output}"
    )
