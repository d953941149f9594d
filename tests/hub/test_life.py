"""A running server in a world that fails: unknown never stops it, and its end is believed only when proven."""

import asyncio
from typing import Any

import pytest

from spawner.hub.workbench import keep_running
from spawner.model import Cause, Lease, LeaseState
from tests.fakes.docker_engine import Fault
from tests.hub.test_spawn import start, stop
from tests.hub.town import RouteTable, Town, eventually

SILENCE = [Fault.ERROR, Fault.GARBAGE, Fault.WRONG_SHAPE, Fault.DROP, Fault.PAGE_NOT_FOUND]


async def running(town: Town, name: str = "alice", gpus: int = 1) -> Lease:
    status, message = await start(town, name, {"gpus": gpus})
    assert status == 201, message
    (lease,) = [lease for lease in town.live() if lease.user == name]
    return lease


def ended(town: Town, lease: Lease) -> tuple[LeaseState, Cause | None]:
    found = town.ledger.lease(lease.id)
    assert found is not None
    return found.state, found.cause


@pytest.mark.parametrize("fault", SILENCE)
async def test_a_poll_that_learns_nothing_stops_nothing(town: Town, fault: Fault) -> None:
    lease = await running(town)
    spawner = town.user("alice").spawner
    town.engine.plan("list", *[fault] * 3)
    for _ in range(3):
        assert await spawner.poll_and_notify() is None
    assert spawner.ready
    assert town.container(lease).is_running
    assert ended(town, lease) == (LeaseState.RUNNING, None)


async def test_a_container_that_ended_is_noticed_and_its_gpu_freed(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    lease = await running(town)
    spawner = town.user("alice").spawner
    container = town.container(lease)
    container.is_running, container.exit_code = False, 137
    assert await spawner.poll_and_notify() == 137
    assert "server stopped, with exit code: 137" in caplog.text
    assert ended(town, lease) == (LeaseState.CLOSED, Cause.EXITED)
    assert town.leftovers("alice") == {}
    assert "/user/alice/" not in town.hub.proxy.routes
    await running(town, "bob", 2)


async def test_whoever_asks_while_an_end_is_noticed_waits_for_it(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def delete_route(table: RouteTable, routespec: str) -> None:
        await asyncio.sleep(1)
        table.routes.pop(routespec, None)

    monkeypatch.setattr(RouteTable, "delete_route", delete_route)
    lease = await running(town)
    user = town.user("alice")
    spawner = user.spawner
    town.engine.forget()
    await town.controller.release(lease.id, Cause.IDLE)
    first = asyncio.create_task(spawner.poll_and_notify())
    await asyncio.sleep(0.3)
    assert not first.done()
    # a start comes through here, and would be stopped with the old server
    assert await spawner.poll_and_notify() is not None
    assert not user.active


async def test_a_container_that_vanished_is_recorded_as_lost(town: Town) -> None:
    lease = await running(town)
    del town.engine.containers[town.container(lease).name]
    assert await town.user("alice").spawner.poll_and_notify() == 0
    assert ended(town, lease) == (LeaseState.CLOSED, Cause.LOST)
    assert town.leftovers("alice") == {}


async def test_a_stop_ends_only_when_the_container_is_seen_gone(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await running(town)
    tries = 0
    release = town.controller.release

    async def count(*args: Any, **named: Any) -> bool:
        nonlocal tries
        tries += 1
        return await release(*args, **named)

    monkeypatch.setattr(town.controller, "release", count)
    town.hub.tornado_application.settings["slow_stop_timeout"] = 0.1
    town.engine.plan("delete", *[Fault.ERROR] * 1000)
    town.engine.plan("inspect", *[Fault.ERROR] * 1000)
    assert await stop(town, "alice") == 202
    await eventually(lambda: tries > 2, "the stop goes on trying")
    assert town.user("alice").spawner.pending == "stop"
    assert ended(town, lease) == (LeaseState.CLOSING, Cause.USER)
    town.be_brisk()
    assert (await start(town, "bob", {"gpus": 2}))[0] == 202
    assert town.user("bob").spawner.pending == "spawn"
    town.engine.forget()
    await eventually(lambda: not town.user("alice").spawner.active, "the stop has ended")
    assert ended(town, lease) == (LeaseState.CLOSED, Cause.USER)
    await eventually(
        lambda: town.user("bob").spawner.ready, "what was given back is the next one's"
    )


async def test_a_restarted_hub_finds_the_server_and_can_stop_it(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    lease = await running(town)
    container = town.container(lease)
    await town.close_hub()
    await town.open_hub()
    assert "invalid url" not in caplog.text
    spawner = town.user("alice").spawner
    assert spawner.ready
    assert town.container(lease) is container
    assert [gpu.uuid for gpu in spawner.gpus] == ["GPU-0"]
    assert town.hub.proxy.routes["/user/alice/"]["target"].startswith(f"http://{container.name}:")
    assert await stop(town, "alice") == 204
    assert ended(town, lease) == (LeaseState.CLOSED, Cause.USER)


async def test_a_restarted_hub_that_cannot_ask_docker_keeps_the_server(town: Town) -> None:
    lease = await running(town)
    await town.close_hub()
    town.engine.plan("inspect", *[Fault.ERROR] * 3)
    town.engine.plan("list", *[Fault.ERROR] * 3)
    await town.open_hub()
    assert town.user("alice").spawner.ready
    assert ended(town, lease) == (LeaseState.RUNNING, None)
    await eventually(lambda: town.controller.is_ready, "reconcile goes on until it succeeds")
    assert ended(town, lease) == (LeaseState.RUNNING, None)


async def test_a_server_that_ended_while_the_hub_was_away_is_cleared(town: Town) -> None:
    lease = await running(town)
    await town.close_hub()
    del town.engine.containers[town.container(lease).name]
    await town.open_hub()
    await eventually(lambda: not town.live(), "the lease is closed")
    assert town.leftovers("alice") == {}


async def test_two_people_at_once_get_two_gpus(town: Town) -> None:
    answers = await asyncio.gather(*(start(town, name, {"gpus": 1}) for name in ("alice", "bob")))
    assert [status for status, _ in answers] == [201, 201]
    assert sorted(lease.gpu_uuids for lease in town.live()) == [("GPU-0",), ("GPU-1",)]


async def test_the_controller_that_fails_is_started_again_and_says_so(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("spawner.hub.workbench.RESTART_SECONDS", 0.01)
    await town.close_hub()
    runs = 0

    async def fail() -> None:
        nonlocal runs
        runs += 1
        raise RuntimeError("the ledger is on fire")

    await town.open_hub(is_running=False)
    monkeypatch.setattr(town.controller, "run", fail)
    town.workbench.run_beside_hub(keep_running(town.controller))
    await eventually(lambda: runs > 2, "it runs again")
    assert "the ledger is on fire" in caplog.text
