"""The agent over HTTP: its JSON is the contract's, its metrics parse, its process starts and fails well."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from simulation.host import SimulatedHost
from spawner.agent.nvml import Nvml
from spawner.agent.readings import (
    GpuIdentity,
    GpuProcess,
    GpuReading,
    MigInstance,
    Report,
    Xid,
    build_inventory,
    build_samples,
)
from spawner.agent.sampler import Sampler
from spawner.agent.server import build_app
from spawner.model import GpuHealth
from testing.eventually import eventually, eventually_sync
from testing.paths import CONTRACT
from testing.ports import free_port

INVENTORY = json.loads((CONTRACT / "agent-inventory.json").read_text())
SAMPLES = json.loads((CONTRACT / "agent-samples.json").read_text())
FIRST, SECOND, *MIG = (gpu["uuid"] for gpu in SAMPLES["gpus"])
THIRD = INVENTORY["gpus"][2]["uuid"]
NAME = INVENTORY["gpus"][0]["name"]
READINGS = (
    GpuReading(
        uuid=FIRST,
        memory_used_bytes=12884901888,
        memory_total_bytes=85899345920,
        temperature_celsius=54,
        utilization_percent=87,
        power_watts=251.5,
        power_limit_watts=400.0,
        sm_clock_mhz=1410,
        health=GpuHealth.OK,
        processes=(GpuProcess(4242, None, 1073741824),),
    ),
    GpuReading(SECOND, health=GpuHealth.LOST),
    GpuReading(THIRD, temperature_celsius=48, power_watts=80.0, health=GpuHealth.OK),
    GpuReading(
        uuid=MIG[0],
        memory_used_bytes=1073741824,
        memory_total_bytes=10737418240,
        temperature_celsius=48,
        health=GpuHealth.OK,
        processes=(GpuProcess(4343, None, None),),
    ),
    GpuReading(MIG[1], temperature_celsius=48, health=GpuHealth.OK),
)
GOLDEN = Report(
    sampled_at=1795000000.25,
    host="gpu-host-1",
    driver_version="570.86.15",
    cuda_driver_version="12.8",
    gpus=(
        GpuIdentity(FIRST, 0, NAME, 85899345920, "8.0", "00000000:01:00.0", "disabled", 0, 0),
        GpuIdentity(SECOND, 1, NAME, None, None, None, None, 0, 0),
        GpuIdentity(
            uuid=THIRD,
            index=2,
            name=NAME,
            memory_total_bytes=85899345920,
            compute_capability="8.0",
            pci_bus_id="00000000:03:00.0",
            mig_mode="enabled",
            numa_node=1,
            mig_instances=(
                MigInstance(MIG[0], 0, "1g.10gb", 10737418240),
                MigInstance(MIG[1], 1, "3g.40gb", None),
            ),
        ),
    ),
    readings={reading.uuid: reading for reading in READINGS},
    xids={SECOND: Xid(79, 1794999990.5)},
)


@asynccontextmanager
async def served(sampler: Sampler) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(build_app(sampler))) as client:
        yield client


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimulatedHost]:
    host = SimulatedHost(tmp_path / "gpus")
    host.add(0, temperature_celsius=54, utilization_percent=87, numa_node=0, nvlink_group=0)
    host.add(1, fan_speed_percent=20, nvlink_group=0)
    with host.opened():
        yield host


def metrics_of(text: str) -> dict[tuple[str, str | None], float]:
    return {
        (sample.name, sample.labels.get("uuid")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def shape(value: object) -> object:
    """Keep keys and types, with one entry for each list."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return type(value).__name__


def test_the_answers_are_those_of_the_contract() -> None:
    assert json.loads(json.dumps(build_inventory(GOLDEN))) == INVENTORY
    assert json.loads(json.dumps(build_samples(GOLDEN))) == SAMPLES


async def test_a_live_answer_has_the_shape_of_the_contract(host: SimulatedHost) -> None:
    host.set(FIRST, process="4242:1073741824")
    async with served(Sampler(Nvml().report)) as client:
        inventory = await (await client.get("/inventory")).json()
        samples = await (await client.get("/samples")).json()
    assert shape(inventory) == shape(INVENTORY)
    process = samples["gpus"][0]["processes"][0]
    process["container_id"] = None  # whatever runs as 4242 here
    assert shape(samples) == shape(SAMPLES)
    assert inventory["host"] == socket.gethostname()
    assert [gpu["simulated"] for gpu in inventory["gpus"]] == [True, True]


async def test_a_change_is_reported_within_a_second_and_a_bit(host: SimulatedHost) -> None:
    async with served(Sampler(Nvml().report)) as client:
        await client.get("/samples")
        host.set(FIRST, temperature_celsius=80, health="ok")
        host.set(SECOND, health="lost")

        async def changed() -> list[dict[str, Any]] | None:
            gpus: list[dict[str, Any]] = (await (await client.get("/samples")).json())["gpus"]
            return gpus if gpus[0]["temperature_celsius"] == 80 else None

        gpus = await eventually(changed, "the sample has the new temperature")
        assert gpus[0]["temperature_celsius"] == 80
        assert (gpus[1]["health"], gpus[1]["temperature_celsius"]) == ("lost", None)
        inventory = await (await client.get("/inventory")).json()
        assert [gpu["health"] for gpu in inventory["gpus"]] == ["ok", "lost"]


async def test_metrics_have_base_units_and_no_unknown_values(host: SimulatedHost) -> None:
    host.set(SECOND, power_milliwatts="unsupported")
    async with served(Sampler(Nvml().report)) as client:
        answer = await client.get("/metrics")
        metrics = metrics_of(await answer.text())
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert metrics["workbench_nvml_up", None] == 1
    assert metrics["workbench_gpu_temperature_celsius", FIRST] == 54
    assert metrics["workbench_gpu_utilization_ratio", FIRST] == pytest.approx(0.87)
    assert metrics["workbench_gpu_memory_total_bytes", FIRST] == 80 * 1024**3
    assert metrics["workbench_gpu_sm_clock_hertz", FIRST] == 210e6
    assert metrics["workbench_gpu_power_watts", FIRST] == 60
    assert metrics["workbench_gpu_healthy", SECOND] == 1
    assert ("workbench_gpu_power_watts", SECOND) not in metrics


async def test_a_lost_gpu_has_no_metric_but_its_faults() -> None:
    async with served(Sampler(lambda: GOLDEN)) as client:
        metrics = metrics_of(await (await client.get("/metrics")).text())
    of_lost = {name: value for (name, uuid), value in metrics.items() if uuid == SECOND}
    assert of_lost == {
        "workbench_gpu_info": 1,
        "workbench_gpu_healthy": 0,
        "workbench_gpu_last_fatal_xid": 79,
        "workbench_gpu_last_fatal_xid_timestamp_seconds": 1794999990.5,
    }


async def test_a_sum_over_gpus_has_no_mig_instance_in_it() -> None:
    async with served(Sampler(lambda: GOLDEN)) as client:
        text = await (await client.get("/metrics")).text()
    metrics = metrics_of(text)
    assert metrics["workbench_mig_memory_used_bytes", MIG[0]] == 1073741824
    assert metrics["workbench_mig_memory_total_bytes", MIG[0]] == 10737418240
    assert ("workbench_mig_memory_used_bytes", MIG[1]) not in metrics
    assert {uuid for name, uuid in metrics if name.startswith("workbench_gpu_")} == {
        FIRST,
        SECOND,
        THIRD,
    }
    labels = f'{{gpu_uuid="{THIRD}",profile="1g.10gb",uuid="{MIG[0]}"}}'
    assert f"workbench_mig_memory_used_bytes{labels}" in text


async def test_without_a_driver_every_path_answers() -> None:
    report = Report(sampled_at=1.0, host="h", error="This host has no NVIDIA driver.")
    async with served(Sampler(lambda: report)) as client:
        inventory = await (await client.get("/inventory")).json()
        samples = await (await client.get("/samples")).json()
        metrics = metrics_of(await (await client.get("/metrics")).text())
        health = await client.get("/healthz")
    assert (inventory["gpus"], inventory["error"]) == ([], "This host has no NVIDIA driver.")
    assert (samples["gpus"], samples["error"]) == ([], "This host has no NVIDIA driver.")
    assert metrics == {("workbench_nvml_up", None): 0}
    assert health.status == 200


async def test_a_stuck_nvml_is_a_503_in_time_and_unhealthy() -> None:
    may_go_on = threading.Event()

    def hang() -> Report:
        may_go_on.wait(30)
        return GOLDEN

    async with served(Sampler(hang, timeout_seconds=0.05)) as client:
        try:
            for path in ("/inventory", "/samples", "/metrics", "/healthz"):
                answer = await client.get(path)
                assert answer.status == 503, path
                assert "NVML does not answer" in (await answer.json())["error"]
        finally:
            may_go_on.set()


async def test_who_gpus_are_is_read_before_the_first_request(host: SimulatedHost) -> None:
    loop, nvml, has_looked = asyncio.get_running_loop(), Nvml(), asyncio.Event()

    def sample() -> Report:
        report = nvml.report()
        loop.call_soon_threadsafe(has_looked.set)
        return report

    async with served(Sampler(sample, period_seconds=0)) as client:
        await asyncio.wait_for(has_looked.wait(), 30)
        host.set(FIRST, health="lost")

        async def healths() -> list[str] | None:
            inventory = await (await client.get("/inventory")).json()
            found = [str(gpu["health"]) for gpu in inventory["gpus"]]
            return found if "lost" in found else None

        assert await eventually(healths, "a GPU is lost") == ["lost", "ok"]


@pytest.fixture
def port() -> int:
    return free_port()


def start(host: SimulatedHost, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "spawner.agent", "--port", str(port)],
        env=host.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def fetch(port: int, path: str) -> Any:
    def answer() -> Any:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return json.load(response)

    return eventually_sync(answer, f"the agent answers {path}")


def test_the_process_serves_and_ends_quietly(tmp_path: Path, port: int) -> None:
    host = SimulatedHost(tmp_path)
    host.add(0)
    process = start(host, port)
    try:
        assert fetch(port, "/healthz") == {"error": None}
        assert [gpu["uuid"] for gpu in fetch(port, "/inventory")["gpus"]] == [FIRST]
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "")


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        process = start(SimulatedHost(tmp_path), listener.getsockname()[1])
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "cannot listen on port" in output
    assert output.count("\n") == 1


@pytest.mark.parametrize("port", [0, 70000])
def test_a_number_that_is_no_port_is_one_sentence(tmp_path: Path, port: int) -> None:
    process = start(SimulatedHost(tmp_path), port)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert f'"{port}" is not a port' in output.splitlines()[-1]
