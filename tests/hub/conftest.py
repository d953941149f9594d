"""One fresh hub per test."""

import functools
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import bcrypt
import pytest

from spawner.settings import Settings
from tests.fakes.docker_engine import FakeEngine
from tests.hub.shell import Shell
from tests.hub.town import Agent, Town


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Defaults, with the ledger in the test's folder; a module overrides this for other settings."""
    return Settings(ledger_url=f"sqlite:///{tmp_path}/ledger.sqlite", start_timeout_seconds=10)


@pytest.fixture
async def town(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Town]:
    monkeypatch.setattr("bcrypt.gensalt", functools.partial(bcrypt.gensalt, 4))  # as slow as needed
    monkeypatch.setattr("spawner.controller.leases.STOP_GRACE_SECONDS", 0)
    monkeypatch.setattr("spawner.controller.controller.TICK_SECONDS", 0.2)
    monkeypatch.setattr("spawner.controller.health.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("spawner.hub.servers.grant.RETRY_SECONDS", 0.1)
    monkeypatch.setattr("spawner.hub.servers.resume_queue.RETRY_SECONDS", 0.1)
    monkeypatch.setattr("spawner.hub.servers.readiness.LOOK_SECONDS", 0.05)
    monkeypatch.setattr("spawner.hub.workbench.LISTED_SECONDS", 0.0)
    async with FakeEngine(tmp_path / "docker.sock") as engine:
        town = Town(tmp_path, engine, Agent(gpus=2), settings)
        # the hub's own check asks the network's name server directly unless told otherwise
        monkeypatch.setattr("aiohttp.connector.DefaultResolver", aiohttp.ThreadedResolver)
        monkeypatch.setattr(socket, "getaddrinfo", town.servers.getaddrinfo)
        async with town.servers.listening():
            await town.open_hub()
            yield town
            engine.forget()
            await town.close_hub()
            town.ledger.close()


@pytest.fixture
def shell(town: Town, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(town, capsys, monkeypatch)
