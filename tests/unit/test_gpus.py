"""The hub's client of the agent: the contract is understood, and nothing else is believed."""

import asyncio
import copy
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from simulation.host import SimulatedHost
from spawner import gpus
from spawner.agent.nvml import Nvml
from spawner.agent.sampler import Sampler
from spawner.agent.server import build_app
from spawner.gpus import AgentClient, GpuProcessSample, GpuSample
from spawner.model import Gpu, GpuHealth, Unknown
from testing.paths import CONTRACT

GOLDEN = {
    "/inventory": json.loads((CONTRACT / "agent-inventory.json").read_text()),
    "/samples": json.loads((CONTRACT / "agent-samples.json").read_text()),
}
FIRST, SECOND, *MIG = (gpu["uuid"] for gpu in GOLDEN["/samples"]["gpus"])
DRIVER: dict[str, Any] = {"driver_version": "570.86.15", "cuda_driver_version": "12.8"}
NAME = "NVIDIA A100-SXM4-80GB (simulated)"
ASK: dict[str, Callable[[AgentClient], Any]] = {
    "/inventory": AgentClient.inventory,
    "/samples": AgentClient.samples,
}


@asynccontextmanager
async def asking(app: web.Application) -> AsyncIterator[AgentClient]:
    async with TestServer(app) as server:
        agent = AgentClient(str(server.make_url("/")))
        try:
            yield agent
        finally:
            await agent.close()


def answering(body: object, status: int = 200, asked: list[str] | None = None) -> web.Application:
    """Serve one body on every path, as JSON unless it is text."""

    async def answer(request: web.Request) -> web.Response:
        if asked is not None:
            asked.append(request.path)
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(text=text, status=status, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    return app


async def test_the_contract_is_understood() -> None:
    divided: dict[str, Any] = {"numa_node": 1, "compute_capability": "8.0", **DRIVER}
    async with asking(answering(GOLDEN["/inventory"])) as agent:
        assert await agent.inventory() == (
            Gpu(
                uuid=FIRST,
                index=0,
                name=NAME,
                memory_total_bytes=85899345920,
                health=GpuHealth.OK,
                numa_node=0,
                nvlink_group=0,
                compute_capability="8.0",
                **DRIVER,
            ),
            Gpu(
                uuid=SECOND,
                index=1,
                name=NAME,
                memory_total_bytes=None,
                health=GpuHealth.LOST,
                numa_node=0,
                nvlink_group=0,
                xid=79,
                xid_at=1794999990.5,
                **DRIVER,
            ),
            Gpu(MIG[0], 2, NAME, 10737418240, GpuHealth.OK, "1g.10gb", 0, **divided),
            Gpu(MIG[1], 2, NAME, None, GpuHealth.OK, "3g.40gb", 1, **divided),
        )
    async with asking(answering(GOLDEN["/samples"])) as agent:
        samples = await agent.samples()
    assert list(samples) == [FIRST, SECOND, *MIG]
    assert samples[FIRST] == GpuSample(
        uuid=FIRST,
        memory_used_bytes=12884901888,
        memory_total_bytes=85899345920,
        temperature_celsius=54,
        utilization_percent=87,
        power_watts=251.5,
        power_limit_watts=400.0,
        sm_clock_mhz=1410,
        health=GpuHealth.OK,
        processes=(GpuProcessSample(4242, None, 1073741824),),
    )
    assert samples[SECOND].health is GpuHealth.LOST
    assert samples[SECOND].temperature_celsius is None


async def test_a_real_agent_is_understood(tmp_path: Path) -> None:
    host = SimulatedHost(tmp_path / "gpus")
    host.add(0, temperature_celsius=77, process="4000000:5", power_milliwatts="unsupported")
    host.add(1)
    with host.opened():
        async with asking(build_app(Sampler(Nvml().report))) as agent:
            first, second = await agent.inventory()
            samples = await agent.samples()
    assert (first.uuid, second.uuid) == (FIRST, SECOND)
    assert first.is_simulated
    assert samples[FIRST].temperature_celsius == 77
    assert samples[FIRST].power_watts is None
    assert samples[FIRST].processes == (GpuProcessSample(4000000, None, 5),)


def change(path: str, *steps: str | int, to: object) -> Any:
    """Return the golden answer of ``path`` with one place changed."""
    answer = copy.deepcopy(GOLDEN[path])
    place = answer
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = to
    return answer


def without(path: str, key: str) -> Any:
    answer = copy.deepcopy(GOLDEN[path])
    del answer["gpus"][0][key]
    return answer


async def test_an_instance_fails_with_its_gpu_and_is_joined_to_no_one() -> None:
    divided = GOLDEN["/inventory"]["gpus"][2]
    fault = {"health": "lost", "xid": 79, "xid_at": 5.0, "nvlink_group": 0}
    body = {**GOLDEN["/inventory"], "gpus": [{**divided, **fault}]}
    async with asking(answering(body)) as agent:
        instances = await agent.inventory()
    assert [gpu.uuid for gpu in instances] == MIG
    for gpu in instances:
        assert (gpu.health, gpu.xid, gpu.xid_at) == (GpuHealth.LOST, 79, 5.0)
        assert (gpu.index, gpu.numa_node, gpu.nvlink_group) == (2, 1, None)
        assert gpu.is_simulated


@pytest.mark.parametrize(("mode", "uuids"), [("disabled", 1), (None, 1), ("enabled", 0)])
async def test_a_gpu_is_leased_whole_unless_it_is_divided(mode: str | None, uuids: int) -> None:
    divided = {**GOLDEN["/inventory"]["gpus"][2], "mig_mode": mode, "mig_instances": []}
    async with asking(answering({**GOLDEN["/inventory"], "gpus": [divided]})) as agent:
        assert len(await agent.inventory()) == uuids


async def test_a_real_agent_of_a_divided_gpu_is_understood(tmp_path: Path) -> None:
    host = SimulatedHost(tmp_path / "gpus")
    host.add(0, numa_node=1, temperature_celsius=70)
    uuids = host.divide(0, "1g.10gb", "3g.40gb")
    host.set(uuids[1], process="4000000:5")
    with host.opened():
        async with asking(build_app(Sampler(Nvml().report))) as agent:
            instances = await agent.inventory()
            samples = await agent.samples()
    assert [(gpu.uuid, gpu.mig_profile, gpu.mig_index) for gpu in instances] == [
        (uuids[0], "1g.10gb", 0),
        (uuids[1], "3g.40gb", 1),
    ]
    assert {(gpu.health, gpu.numa_node, gpu.is_simulated) for gpu in instances} == {
        (GpuHealth.OK, 1, True)
    }
    assert list(samples) == uuids
    assert samples[uuids[1]].processes == (GpuProcessSample(4000000, None, 5),)
    assert samples[uuids[1]].temperature_celsius == 70
    assert samples[uuids[1]].utilization_percent is None


WRONG_GPU = {
    "uuid": [None, 0, "0", "GPU-1", FIRST.upper(), f"{FIRST},{SECOND}", "../x"],
    "memory_total_bytes": ["N/A", "1", -1, 1.5, True],
    "health": ["fine", None, True],
}
WRONG_SAMPLE = {
    **WRONG_GPU,
    "memory_used_bytes": ["N/A", -1, 0.5],
    "temperature_celsius": ["54", 54.5],
    "utilization_percent": [101, -1, "87"],
    "power_watts": ["251", -0.5, float("nan"), float("inf"), True],
    "processes": [None, {}, [1], [{"pid": "1", "container_id": None, "memory_used_bytes": None}],
                  [{"pid": 1, "container_id": "short", "memory_used_bytes": None}]],
}  # fmt: skip
WRONG_INVENTORY = {
    **WRONG_GPU,
    "index": [None, "0", -1, 0.5],
    "name": [None, "", 1],
    "mig_mode": ["N/A", True],
    "simulated": [None, "true", 1],
    "numa_node": [-1, "0", 0.5, True],
    "nvlink_group": [-1, "0", 0.5],
    "xid": [-1, "79", 79.5],
    "xid_at": [-1.0, "now", float("nan"), float("inf")],
    "mig_instances": [None, {}, [1]],
}
WRONG_INSTANCE = {
    "uuid": [None, FIRST, MIG[0].upper(), MIG[1], "MIG-1", "MIG-GPU-51a0c0de/1/0"],
    "mig_index": [None, -1, "0"],
    "profile": [None, "", "10gb", "1g", "1g.10gb ", "1g.10GB", "0g.10gb", "1g.10gb;x"],
    "memory_total_bytes": ["N/A", -1, 1.5],
}
BROKEN = [
    *(
        pytest.param(path, change(path, "gpus", 0, key, to=value), id=f"{path} {key} {value!r}")
        for path, wrong in (("/inventory", WRONG_INVENTORY), ("/samples", WRONG_SAMPLE))
        for key, values in wrong.items()
        for value in values
    ),
    *(
        pytest.param(
            "/inventory",
            change("/inventory", "gpus", 2, "mig_instances", 0, key, to=value),
            id=f"MIG instance {key} {value!r}",
        )
        for key, values in WRONG_INSTANCE.items()
        for value in values
    ),
    *(
        pytest.param(path, answer, id=f"{path} {name}")
        for path in GOLDEN
        for name, answer in {
            "schema 2": change(path, "schema", to=2),
            "schema text": change(path, "schema", to="1"),
            "no health": without(path, "health"),
            "one key more": change(path, "more", to=1),
            "one key more in a GPU": change(path, "gpus", 0, "more", to=1),
            "a GPU twice": change(path, "gpus", 1, "uuid", to=FIRST),
            "gpus null": change(path, "gpus", to=None),
            "error number": change(path, "error", to=1),
            "list": [],
            "null": None,
            "empty": "",
            "HTML": "<html>",
            "cut off": json.dumps(GOLDEN[path])[:-1],
        }.items()
    ),
]


@pytest.mark.parametrize(("path", "body"), BROKEN)
async def test_what_is_not_of_the_contract_is_unknown(path: str, body: object) -> None:
    async with asking(answering(body)) as agent:
        with pytest.raises(Unknown, match=r"^The gpu-agent at http://\S+ .*\.$"):
            await ASK[path](agent)


@pytest.mark.parametrize("path", GOLDEN)
@pytest.mark.parametrize("status", [302, 404, 500, 503])
async def test_another_status_is_unknown(path: str, status: int) -> None:
    async with asking(answering(GOLDEN[path], status)) as agent:
        with pytest.raises(Unknown, match=f"with status {status}"):
            await ASK[path](agent)


@pytest.mark.parametrize("path", GOLDEN)
async def test_no_one_there_is_unknown(path: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        agent = AgentClient(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(Unknown, match="cannot be reached"):
            await ASK[path](agent)
        await agent.close()


@pytest.mark.parametrize("url", ["http://no-such-agent.invalid:9201", "nonsense"])
async def test_a_wrong_address_is_unknown(url: str) -> None:
    agent = AgentClient(url)
    with pytest.raises(Unknown, match="cannot be reached"):
        await agent.inventory()
    await agent.close()


async def test_silence_is_unknown_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_TIMEOUT", aiohttp.ClientTimeout(total=0.1))
    over = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/inventory", hang)
    async with asking(app) as agent:
        with pytest.raises(Unknown, match="did not answer in time"):
            await asyncio.wait_for(agent.inventory(), 30)
        over.set()


async def test_an_inventory_is_remembered_for_a_moment() -> None:
    asked: list[str] = []
    async with asking(answering(GOLDEN["/inventory"], asked=asked)) as agent:
        first = await agent.inventory()
        assert await agent.inventory() is first
        assert len(asked) == 1
        assert agent._known_until <= time.monotonic() + 2
        agent._known_until = time.monotonic()
        assert await agent.inventory() == first
        assert len(asked) == 2


async def test_a_crowd_makes_one_request() -> None:
    asked: list[str] = []
    async with asking(answering(GOLDEN["/inventory"], asked=asked)) as agent:
        first, *others = await asyncio.gather(*(agent.inventory() for _ in range(100)))
        assert all(other is first for other in others)
    assert len(asked) == 1


async def test_a_failure_is_not_remembered_and_no_old_answer_covers_it() -> None:
    answers = iter([500, 200])

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(GOLDEN["/inventory"], status=next(answers))

    app = web.Application()
    app.router.add_get("/inventory", answer)
    async with asking(app) as agent:
        with pytest.raises(Unknown):
            await agent.inventory()
        assert len(await agent.inventory()) == 4


async def test_only_the_first_waits_for_what_is_known_already() -> None:
    may_answer = asyncio.Event()
    may_answer.set()

    async def answer(_: web.Request) -> web.Response:
        await may_answer.wait()
        return web.json_response(GOLDEN["/inventory"])

    app = web.Application()
    app.router.add_get("/inventory", answer)
    async with asking(app) as agent:
        first = await agent.last_inventory()
        assert len(first) == 4
        may_answer.clear()
        agent._known_until = 0
        assert await asyncio.wait_for(agent.last_inventory(), 30) is first
        # a caller that needs it fresh waits for the request that is under way
        fresh = asyncio.create_task(agent.inventory())
        assert not (await asyncio.wait((fresh,), timeout=0.1))[0]
        may_answer.set()
        assert await fresh == first


async def test_what_was_unknown_last_is_unknown_and_asked_again() -> None:
    answers = iter([200, 500, 200])

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(GOLDEN["/inventory"], status=next(answers))

    app = web.Application()
    app.router.add_get("/inventory", answer)
    async with asking(app) as agent:
        await agent.last_inventory()
        agent._known_until = 0
        with pytest.raises(Unknown):
            await agent.inventory()
        with pytest.raises(Unknown):
            await agent.last_inventory()
        assert len(await agent.inventory()) == len(await agent.last_inventory()) == 4


async def test_what_the_agent_cannot_see_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    none = {**GOLDEN["/inventory"], "gpus": [], "error": "This host has no NVIDIA driver."}
    with caplog.at_level(logging.WARNING):
        async with asking(answering(none)) as agent:
            for _ in range(3):
                assert await agent.inventory() == ()
                agent._known_until = 0
    assert [record.getMessage().endswith("no NVIDIA driver.") for record in caplog.records] == [
        True
    ]


async def test_it_can_be_used_again_after_close() -> None:
    async with asking(answering(GOLDEN["/samples"])) as agent:
        await agent.samples()
        await agent.close()
        assert len(await agent.samples()) == 4
