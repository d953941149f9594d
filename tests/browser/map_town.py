"""A hub in a process of its own for the GPU page: ``python -m tests.browser.map_town FOLDER GPUS``.

It prints its address, then does what it is told, a line at a time, and answers ``done``; no Docker is needed.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import sys
from pathlib import Path

import aiohttp
import bcrypt

from spawner.controller import leases
from spawner.settings import Settings
from tests.fakes.docker_engine import FakeEngine
from tests.hub.test_sign_up import admin, join
from tests.hub.test_spawn import start
from tests.hub.town import Agent, Town


async def tell(town: Town, words: list[str]) -> None:
    """Do what one line says."""
    match words:
        case ["start", name, gpus]:
            await start(town, name, {"gpus": int(gpus), "hours": 2})
        case ["read", index, percent]:
            town.agent.read(
                int(index), memory_used_bytes=8 * 1024**3, utilization_percent=int(percent)
            )
        case ["silent" | "speaking" as what]:
            town.agent.is_silent = what == "silent"
        case ["restart"]:
            await town.close_hub()
            await asyncio.sleep(3)
            await town.open_hub()
            town.be_brisk()
        case _:
            raise ValueError(words)


async def main(folder: Path, gpus: int) -> None:
    """Serve until stdin ends."""
    leases.STOP_GRACE_SECONDS = 0
    bcrypt.gensalt = functools.partial(bcrypt.gensalt, 4)
    settings = Settings(ledger_url=f"sqlite:///{folder}/ledger.sqlite", start_timeout_seconds=10)
    async with FakeEngine(folder / "docker.sock") as engine:
        town = Town(folder, engine, Agent(gpus), settings)
        aiohttp.connector.DefaultResolver = aiohttp.ThreadedResolver
        socket.getaddrinfo = town.servers.getaddrinfo
        async with town.servers.listening():
            await town.open_hub()
            town.be_brisk()
            async with town.browser() as browser, admin(town):
                await join(town, browser, "mara")
            sys.stdout.write(f"{town.url}\n")
            sys.stdout.flush()
            loop = asyncio.get_running_loop()
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                await tell(town, line.split())
                sys.stdout.write("done\n")
                sys.stdout.flush()
            engine.forget()
            await town.close_hub()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
