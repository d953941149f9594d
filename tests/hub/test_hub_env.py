"""The fakes of the hub behave as the outside things that they replace."""

import socket
from pathlib import Path

import pytest

from spawner.model import Unknown
from testing.fakes.docker_engine import FakeEngine
from tests.hub.hub_env import FakeAgent, RouteTable, Servers


async def test_a_containers_name_resolves_only_while_it_runs_and_listens(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path / "docker.sock")
    servers = Servers(engine, 8888)
    with pytest.raises(socket.gaierror):
        servers.getaddrinfo("workbench-alice", 8888)
    container = engine.add("workbench-alice", {}, is_running=True)
    assert servers.getaddrinfo("workbench-alice", 8888)[0][4] == ("127.0.0.1", 8888)
    servers.is_mute = True
    with pytest.raises(socket.gaierror):
        servers.getaddrinfo("workbench-alice", 8888)
    servers.is_mute, container.is_running = False, False
    with pytest.raises(socket.gaierror):
        servers.getaddrinfo("workbench-alice", 8888)


async def test_the_agent_answers_or_is_silent() -> None:
    agent = FakeAgent(gpus=2)
    assert [gpu.uuid for gpu in await agent.inventory()] == ["GPU-0", "GPU-1"]
    agent.is_silent = True
    with pytest.raises(Unknown):
        await agent.inventory()


async def test_the_route_table_forgets_what_is_deleted() -> None:
    table = RouteTable()
    await table.add_route("/user/alice/", "http://host:1", {})
    assert list(await table.get_all_routes()) == ["/user/alice/"]
    await table.delete_route("/user/alice/")
    await table.delete_route("/user/alice/")
    assert await table.get_all_routes() == {}
