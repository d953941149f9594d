"""The broker starts the gpu-agent again where Docker could not, and no other container."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spawner.broker import agent_restart
from spawner.broker.engine import Engine
from testing.eventually import eventually
from testing.fakes.docker_container import FakeContainer
from testing.fakes.docker_engine import FakeEngine
from testing.fakes.docker_faults import Fault

INSTANCE = "wb"
ERROR = 'could not select device driver "cdi" with capabilities: [[gpu]]'
STARTED = "2026-11-23T12:00:00.0Z"


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    async with FakeEngine(tmp_path / "docker.sock") as fake:
        yield fake


@pytest.fixture
async def engine(fake: FakeEngine) -> AsyncIterator[Engine]:
    engine = Engine(str(fake.socket_path))
    yield engine
    await engine.close()


def add(fake: FakeEngine, project: str, service: str, error: str) -> FakeContainer:
    # the fake lets those with this role run on
    labels = {
        "com.docker.compose.project": project,
        "com.docker.compose.service": service,
        "workbench.role": "server",
    }
    container = fake.add(f"{project}-{service}-1", {"Labels": labels}, is_running=False)
    container.started_at, container.error = STARTED, error
    return container


async def test_an_agent_that_docker_could_not_start_is_started(
    fake: FakeEngine, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    agent = add(fake, INSTANCE, "gpu-agent", ERROR)
    await agent_restart.restart_failed_agent(engine, INSTANCE)
    assert agent.is_running
    assert f"Agent restarted: service=gpu-agent state=running reason={ERROR}" in caplog.text


@pytest.mark.parametrize(
    ("project", "service", "error"),
    [
        (INSTANCE, "gpu-agent", ""),  # it was stopped by hand
        (INSTANCE, "hub", ERROR),
        ("other", "gpu-agent", ERROR),
    ],
)
async def test_no_one_else_is_started(
    fake: FakeEngine, engine: Engine, project: str, service: str, error: str
) -> None:
    container = add(fake, project, service, error)
    await agent_restart.restart_failed_agent(engine, INSTANCE)
    assert not container.is_running


async def test_it_is_tried_again_until_it_succeeds(
    fake: FakeEngine,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(agent_restart, "CHECK_SECONDS", 0.01)
    agent = add(fake, INSTANCE, "gpu-agent", ERROR)
    fake.plan("list", Fault.ERROR, Fault.WRONG_SHAPE, Fault.DROP)
    fake.plan("start", Fault.ERROR)
    keeping = asyncio.create_task(agent_restart.keep_agent_running(engine, INSTANCE))
    await eventually(lambda: agent.is_running, "the agent runs")
    keeping.cancel()
    assert "Agent unknown: service=gpu-agent state=unknown" in caplog.text
