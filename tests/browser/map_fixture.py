"""A hub in a process of its own for the GPU page: ``python -m tests.browser.map_fixture FOLDER GPUS``.

It prints its address, then executes each line of stdin and answers ``done``; no Docker is needed.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import sys
from pathlib import Path
from unittest import mock

import aiohttp
import bcrypt

from spawner.controller import lease_lifecycle
from spawner.settings import Settings
from testing.fakes.docker_engine import FakeEngine
from tests.hub.accounts import admin, join, sign_up
from tests.hub.hub_env import FakeAgent, HubEnvironment
from tests.hub.servers import start


async def execute(hub_env: HubEnvironment, words: list[str]) -> None:
    """Do what one line says."""
    match words:
        case ["start", name, gpus]:
            await start(hub_env, name, {"gpus": int(gpus), "hours": 2})
        case ["sign-up", name]:
            async with hub_env.browser() as browser:
                await sign_up(browser, name)
        case ["read", index, percent]:
            hub_env.agent.read(
                int(index), memory_used_bytes=8 * 1024**3, utilization_percent=int(percent)
            )
        case ["silent" | "speaking" as what]:
            hub_env.agent.is_silent = what == "silent"
        case ["restart"]:
            await hub_env.close_hub()
            await asyncio.sleep(3)
            await hub_env.open_hub()
            hub_env.be_brisk()
        case _:
            raise ValueError(words)


async def main(folder: Path, gpus: int) -> None:
    """Serve until stdin ends."""
    lease_lifecycle.STOP_GRACE_SECONDS = 0
    bcrypt.gensalt = functools.partial(bcrypt.gensalt, 4)
    settings = Settings(ledger_url=f"sqlite:///{folder}/ledger.sqlite", start_timeout_seconds=10)
    async with FakeEngine(folder / "docker.sock") as engine:
        hub_env = HubEnvironment(folder, engine, FakeAgent(gpus), settings)
        # the hub's own check asks the network's name server directly otherwise
        mock.patch("aiohttp.connector.DefaultResolver", aiohttp.ThreadedResolver).start()
        socket.getaddrinfo = hub_env.servers.getaddrinfo
        async with hub_env.servers.listening():
            await hub_env.open_hub()
            hub_env.be_brisk()
            async with hub_env.browser() as browser, admin(hub_env):
                await join(hub_env, browser, "mara")
            sys.stdout.write(f"{hub_env.url}\n")
            sys.stdout.flush()
            loop = asyncio.get_running_loop()
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                await execute(hub_env, line.split())
                sys.stdout.write("done\n")
                sys.stdout.flush()
            engine.forget()
            await hub_env.close_hub()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
