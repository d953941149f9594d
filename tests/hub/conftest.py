"""One fresh hub per test."""

import functools
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import bcrypt
import pytest

from spawner.settings import Settings
from testing.fakes.docker_engine import FakeEngine
from tests.hub.fake_disk import fill
from tests.hub.hub_env import FakeAgent, HubEnvironment
from tests.hub.shell import Shell


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Defaults, with the ledger in the test's folder; a module overrides this for other settings."""
    return Settings(
        ledger_url=f"sqlite:///{tmp_path}/ledger.sqlite",
        start_timeout_seconds=10,
        starts_per_hour=100000,
    )


@pytest.fixture
async def hub_env(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HubEnvironment]:
    monkeypatch.setattr("bcrypt.gensalt", functools.partial(bcrypt.gensalt, 4))  # as slow as needed
    fill(monkeypatch, percent_free=50)
    monkeypatch.setattr("spawner.controller.lease_lifecycle.STOP_GRACE_SECONDS", 0)
    monkeypatch.setattr("spawner.controller.controller.TICK_SECONDS", 0.2)
    monkeypatch.setattr("spawner.controller.health.CHECK_SECONDS", 0.1)
    monkeypatch.setattr("spawner.hub.servers.grant.RETRY_SECONDS", 0.1)
    monkeypatch.setattr("spawner.hub.servers.resume_queue.RETRY_SECONDS", 0.1)
    monkeypatch.setattr("spawner.hub.servers.readiness.ALIVE_CHECK_SECONDS", 0.05)
    monkeypatch.setattr("spawner.hub.workbench.RUNNING_MAX_AGE_SECONDS", 0.0)
    async with FakeEngine(tmp_path / "docker.sock") as engine:
        hub_env = HubEnvironment(tmp_path, engine, FakeAgent(gpus=2), settings)
        # the hub's own check asks the network's name server directly by default
        monkeypatch.setattr("aiohttp.connector.DefaultResolver", aiohttp.ThreadedResolver)
        monkeypatch.setattr(socket, "getaddrinfo", hub_env.servers.getaddrinfo)
        async with hub_env.servers.listening():
            await hub_env.open_hub()
            yield hub_env
            engine.forget()
            await hub_env.close_hub()
            hub_env.ledger.close()


@pytest.fixture
def shell(
    hub_env: HubEnvironment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shell:
    return Shell(hub_env, capsys, monkeypatch)
