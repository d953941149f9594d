"""The fake Docker Engine answers like the real one until a fault is planned."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from testing.fakes.docker_engine import FakeEngine
from testing.fakes.docker_faults import Fault

BODY = {"Image": "sha256:1", "Labels": {"workbench.role": "server"}}


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    async with FakeEngine(tmp_path / "docker.sock") as engine:
        engine.images["image:1"] = "sha256:1"
        yield engine


@pytest.fixture
async def http(engine: FakeEngine) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.UnixConnector(str(engine.socket_path))
    async with aiohttp.ClientSession("http://docker/v1.44/", connector=connector) as session:
        yield session


async def request(http: aiohttp.ClientSession, method: str, path: str, **more: object) -> int:
    async with http.request(method, path, **more) as response:  # type: ignore[arg-type]
        await response.read()
        return response.status


async def test_a_life_has_the_statuses_of_the_real_one(http: aiohttp.ClientSession) -> None:
    assert await request(http, "GET", "containers/a/json") == 404
    assert await request(http, "POST", "containers/create?name=a", json=BODY) == 201
    assert await request(http, "POST", "containers/create?name=a", json=BODY) == 409
    assert await request(http, "POST", "containers/a/stop") == 304
    assert await request(http, "POST", "containers/a/start") == 204
    assert await request(http, "POST", "containers/a/start") == 304
    assert await request(http, "DELETE", "containers/a") == 409
    assert await request(http, "POST", "containers/a/stop") == 204
    assert await request(http, "DELETE", "containers/a") == 204
    assert await request(http, "GET", "containers/a/json") == 404


async def test_an_unknown_image_is_a_404(http: aiohttp.ClientSession) -> None:
    assert await request(http, "GET", "images/image:1/json") == 200
    assert await request(http, "GET", "images/other/json") == 404
    wrong = {**BODY, "Image": "sha256:2"}
    assert await request(http, "POST", "containers/create?name=a", json=wrong) == 404


async def test_a_list_is_filtered_by_label(http: aiohttp.ClientSession) -> None:
    await request(http, "POST", "containers/create?name=a", json=BODY)

    async def names(label: str, everyone: int = 1) -> list[str]:
        query = {"all": str(everyone), "filters": f'{{"label": ["{label}"]}}'}
        async with http.get("containers/json", params=query) as response:
            return [row["Names"][0] for row in await response.json()]

    assert await names("workbench.role=server") == ["/a"]
    assert await names("workbench.role=other") == []
    assert await names("workbench.role=server", everyone=0) == []


async def test_a_fault_is_spent_once_and_only_on_its_subject(
    engine: FakeEngine, http: aiohttp.ClientSession
) -> None:
    await request(http, "POST", "containers/create?name=a", json=BODY)
    await request(http, "POST", "containers/create?name=b", json=BODY)
    engine.plan("inspect", Fault.ERROR, subject="a")
    assert await request(http, "GET", "containers/b/json") == 200
    assert await request(http, "GET", "containers/a/json") == 500
    assert await request(http, "GET", "containers/a/json") == 200
    assert engine.calls[-1] == ("inspect", "a")


@pytest.mark.parametrize(("fault", "lands"), [(Fault.HANG, False), (Fault.LATE, True)])
async def test_a_hanging_start_has_no_effect_and_a_late_one_has(
    engine: FakeEngine, http: aiohttp.ClientSession, fault: Fault, lands: bool
) -> None:
    await request(http, "POST", "containers/create?name=a", json=BODY)
    engine.plan("start", fault)
    start = asyncio.create_task(request(http, "POST", "containers/a/start"))
    assert await request(http, "GET", "containers/a/json") == 200
    assert not start.done()
    assert not engine.containers["a"].is_running
    engine.release()
    assert await start == (204 if lands else 500)
    assert engine.containers["a"].is_running is lands


async def test_a_dropped_call_gets_no_answer(
    engine: FakeEngine, http: aiohttp.ClientSession
) -> None:
    engine.plan("ping", Fault.DROP, Fault.DROP)  # aiohttp asks a second time
    with pytest.raises(aiohttp.ClientConnectionError):
        await request(http, "GET", "_ping")


async def test_a_daemon_that_is_down_keeps_its_containers(
    engine: FakeEngine, http: aiohttp.ClientSession
) -> None:
    await request(http, "POST", "containers/create?name=a", json=BODY)
    await request(http, "POST", "containers/a/start")
    await engine.hang_up()
    with pytest.raises(aiohttp.ClientConnectionError):
        await request(http, "GET", "containers/a/json")
    await engine.listen()
    assert await request(http, "POST", "containers/a/start") == 304


async def test_who_begins_and_ceases_to_run_is_reported(
    engine: FakeEngine, http: aiohttp.ClientSession
) -> None:
    told: list[str] = []
    engine.on_run = lambda container: told.append(f"{container.name} runs")
    engine.on_end = lambda container: told.append(f"{container.name} ended")
    engine.date = lambda: "2026-11-23T13:00:00Z"
    await request(http, "POST", "containers/create?name=a", json=BODY)
    await request(http, "POST", "containers/a/start")
    assert engine.containers["a"].started_at == "2026-11-23T13:00:00Z"
    engine.end("a", 137, oom=True)
    engine.run("a")
    assert engine.containers["a"].oom_killed is False
    engine.vanish("a")
    assert told == ["a runs", "a ended", "a runs", "a ended"]


async def test_a_container_brings_the_volumes_it_mounts(
    engine: FakeEngine, http: aiohttp.ClientSession
) -> None:
    mounts = [{"Type": "volume", "Source": "home"}, {"Type": "bind", "Source": "/etc"}]
    body = {**BODY, "HostConfig": {"Mounts": mounts}}
    assert await request(http, "GET", "volumes/home") == 404
    await request(http, "POST", "containers/create?name=a", json=body)
    assert await request(http, "GET", "volumes/home") == 200
    assert set(engine.volumes) == {"home"}


async def test_a_fault_by_name_meets_who_asks_by_id(
    engine: FakeEngine, http: aiohttp.ClientSession
) -> None:
    await request(http, "POST", "containers/create?name=a", json=BODY)
    engine.plan("inspect", Fault.ERROR, subject="a")
    assert await request(http, "GET", f"containers/{engine.containers['a'].id}/json") == 500
