"""A running server in a world that fails: unknown never stops it, and its end is believed only when proven."""

import asyncio
from typing import Any

import pytest

from spawner.hub.workbench import supervise
from spawner.model import Cause, Lease, LeaseState
from testing.eventually import eventually
from testing.fakes.docker_faults import Fault
from tests.hub.hub_env import HubEnvironment, RouteTable
from tests.hub.servers import start, stop

SILENCE = [Fault.ERROR, Fault.GARBAGE, Fault.WRONG_SHAPE, Fault.DROP, Fault.PAGE_NOT_FOUND]


async def running(hub_env: HubEnvironment, name: str = "alice", gpus: int = 1) -> Lease:
    status, message = await start(hub_env, name, {"gpus": gpus})
    assert status == 201, message
    (lease,) = [lease for lease in hub_env.live() if lease.user == name]
    return lease


def ended(hub_env: HubEnvironment, lease: Lease) -> tuple[LeaseState, Cause | None]:
    found = hub_env.ledger.lease(lease.id)
    assert found is not None
    return found.state, found.cause


@pytest.mark.parametrize("fault", SILENCE)
async def test_a_poll_that_learns_nothing_stops_nothing(
    hub_env: HubEnvironment, fault: Fault
) -> None:
    lease = await running(hub_env)
    spawner = hub_env.user("alice").spawner
    hub_env.engine.plan("list", *[fault] * 3)
    for _ in range(3):
        assert await spawner.poll_and_notify() is None
    assert spawner.ready
    assert hub_env.container(lease).is_running
    assert ended(hub_env, lease) == (LeaseState.RUNNING, None)


async def test_a_container_that_ended_is_noticed_and_its_gpu_freed(
    hub_env: HubEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    lease = await running(hub_env)
    spawner = hub_env.user("alice").spawner
    container = hub_env.container(lease)
    container.is_running, container.exit_code = False, 137
    assert await spawner.poll_and_notify() == 137
    assert "server stopped, with exit code: 137" in caplog.text
    assert ended(hub_env, lease) == (LeaseState.CLOSED, Cause.EXITED)
    assert hub_env.leftovers("alice") == {}
    assert "/user/alice/" not in hub_env.hub.proxy.routes
    await running(hub_env, "bob", 2)


async def test_who_asks_while_an_end_is_noticed_waits_for_it(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def delete_route(table: RouteTable, routespec: str) -> None:
        await asyncio.sleep(1)
        table.routes.pop(routespec, None)

    monkeypatch.setattr(RouteTable, "delete_route", delete_route)
    lease = await running(hub_env)
    user = hub_env.user("alice")
    spawner = user.spawner
    hub_env.engine.forget()
    await hub_env.controller.release(lease.id, Cause.IDLE)
    first = asyncio.create_task(spawner.poll_and_notify())
    await asyncio.sleep(0.3)
    assert not first.done()
    # a start comes through here, and would be stopped with the old server
    assert await spawner.poll_and_notify() is not None
    assert not user.active


async def test_a_container_that_vanished_is_recorded_as_lost(hub_env: HubEnvironment) -> None:
    lease = await running(hub_env)
    del hub_env.engine.containers[hub_env.container(lease).name]
    assert await hub_env.user("alice").spawner.poll_and_notify() == 0
    assert ended(hub_env, lease) == (LeaseState.CLOSED, Cause.LOST)
    assert hub_env.leftovers("alice") == {}


async def test_a_stop_ends_only_when_the_container_is_seen_gone(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await running(hub_env)
    tries = 0
    release = hub_env.controller.release

    async def count(*args: Any, **named: Any) -> bool:
        nonlocal tries
        tries += 1
        return await release(*args, **named)

    monkeypatch.setattr(hub_env.controller, "release", count)
    hub_env.hub.tornado_application.settings["slow_stop_timeout"] = 0.1
    hub_env.engine.plan("delete", *[Fault.ERROR] * 1000)
    hub_env.engine.plan("inspect", *[Fault.ERROR] * 1000)
    assert await stop(hub_env, "alice") == 202
    await eventually(lambda: tries > 2, "the stop goes on trying")
    assert hub_env.user("alice").spawner.pending == "stop"
    assert ended(hub_env, lease) == (LeaseState.CLOSING, Cause.USER)
    hub_env.be_brisk()
    assert (await start(hub_env, "bob", {"gpus": 2}))[0] == 202
    assert hub_env.user("bob").spawner.pending == "spawn"
    hub_env.engine.forget()
    await eventually(lambda: not hub_env.user("alice").spawner.active, "the stop has ended")
    assert ended(hub_env, lease) == (LeaseState.CLOSED, Cause.USER)
    await eventually(
        lambda: hub_env.user("bob").spawner.ready, "what was given back is the next one's"
    )


async def test_a_restarted_hub_finds_the_server_and_can_stop_it(
    hub_env: HubEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    lease = await running(hub_env)
    container = hub_env.container(lease)
    await hub_env.close_hub()
    await hub_env.open_hub()
    assert "invalid url" not in caplog.text
    spawner = hub_env.user("alice").spawner
    assert spawner.ready
    assert hub_env.container(lease) is container
    assert [gpu.uuid for gpu in spawner.gpus] == ["GPU-0"]
    assert hub_env.hub.proxy.routes["/user/alice/"]["target"].startswith(
        f"http://{container.name}:"
    )
    assert await stop(hub_env, "alice") == 204
    assert ended(hub_env, lease) == (LeaseState.CLOSED, Cause.USER)


async def test_a_restarted_hub_that_cannot_ask_docker_keeps_the_server(
    hub_env: HubEnvironment,
) -> None:
    lease = await running(hub_env)
    await hub_env.close_hub()
    hub_env.engine.plan("inspect", *[Fault.ERROR] * 3)
    hub_env.engine.plan("list", *[Fault.ERROR] * 3)
    await hub_env.open_hub()
    assert hub_env.user("alice").spawner.ready
    assert ended(hub_env, lease) == (LeaseState.RUNNING, None)
    await eventually(lambda: hub_env.controller.is_ready, "reconcile goes on until it succeeds")
    assert ended(hub_env, lease) == (LeaseState.RUNNING, None)


async def test_a_server_that_ended_while_the_hub_was_away_is_cleared(
    hub_env: HubEnvironment,
) -> None:
    lease = await running(hub_env)
    await hub_env.close_hub()
    del hub_env.engine.containers[hub_env.container(lease).name]
    await hub_env.open_hub()
    await eventually(lambda: not hub_env.live(), "the lease is closed")
    assert hub_env.leftovers("alice") == {}


async def test_two_people_at_once_get_two_gpus(hub_env: HubEnvironment) -> None:
    answers = await asyncio.gather(
        *(start(hub_env, name, {"gpus": 1}) for name in ("alice", "bob"))
    )
    assert [status for status, _ in answers] == [201, 201]
    assert sorted(lease.gpu_uuids for lease in hub_env.live()) == [("GPU-0",), ("GPU-1",)]


async def test_the_controller_that_fails_is_started_again_and_reports_it(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("spawner.hub.workbench.RESTART_SECONDS", 0.01)
    await hub_env.close_hub()
    runs = 0

    async def fail() -> None:
        nonlocal runs
        runs += 1
        raise RuntimeError("the ledger is on fire")

    await hub_env.open_hub(is_running=False)
    monkeypatch.setattr(hub_env.controller, "run", fail)
    hub_env.workbench.run_in_background(supervise(hub_env.controller))
    await eventually(lambda: runs > 2, "it runs again")
    assert "the ledger is on fire" in caplog.text
