"""NVML readings of the agent, through nvitop and the simulated library."""

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nvitop import Device, libnvml

from simulation.host import SimulatedHost
from spawner.agent import nvml
from spawner.agent.nvml import Nvml
from spawner.agent.readings import GpuIdentity, GpuProcess, GpuReading
from spawner.model import GpuHealth

PID = os.getpid()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimulatedHost]:
    """A host with two GPUs of which the first is at work."""
    host = SimulatedHost(tmp_path / "gpus")
    work = {
        "memory_total_bytes": 85899345920,
        "memory_used_bytes": 12884901888,
        "temperature_celsius": 54,
        "utilization_percent": 87,
        "power_milliwatts": 251500,
        "power_limit_milliwatts": 400000,
        "sm_clock_mhz": 1410,
        "process": f"{PID}:1073741824",
    }
    host.add(0, **work)
    host.add(1)
    with host.opened():
        yield host


def uuid(number: int) -> str:
    return f"GPU-51a0c0de-0000-4000-8000-{number:012x}"


def test_everything_is_read(host: SimulatedHost) -> None:
    report = Nvml().report()
    assert report.error is None
    assert (report.driver_version, report.cuda_driver_version) == ("580.95.05", "13.0")
    assert report.gpus[0] == GpuIdentity(
        uuid=uuid(0),
        index=0,
        name="NVIDIA A100-SXM4-80GB (simulated)",
        memory_total_bytes=85899345920,
        compute_capability="8.0",
        pci_bus_id="00000000:01:00.0",
        mig_mode="disabled",
    )
    assert report.gpus[0].is_simulated
    assert dataclasses.replace(report.readings[uuid(0)], processes=()) == GpuReading(
        uuid=uuid(0),
        memory_used_bytes=12884901888,
        memory_total_bytes=85899345920,
        temperature_celsius=54,
        utilization_percent=87,
        power_watts=251.5,
        power_limit_watts=400.0,
        sm_clock_mhz=1410,
        health=GpuHealth.OK,
    )


def test_a_process_is_reported_with_its_container(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml, "get_container_id", {PID: "c" * 64}.get)
    host.set(uuid(1), process=f"{2**22 + 1}:5")
    report = Nvml().report()
    assert report.readings[uuid(0)].processes == (GpuProcess(PID, "c" * 64, 1073741824),)
    assert report.readings[uuid(1)].processes == (GpuProcess(2**22 + 1, None, 5),)


def test_a_change_is_in_the_next_report(host: SimulatedHost) -> None:
    nvml = Nvml()
    assert nvml.report().readings[uuid(0)].temperature_celsius == 54
    host.set(uuid(0), temperature_celsius=91)
    assert nvml.report().readings[uuid(0)].temperature_celsius == 91


def test_zero_is_a_value(host: SimulatedHost) -> None:
    zero = {"memory_used_bytes": 0, "utilization_percent": 0, "power_milliwatts": 0}
    host.set(uuid(0), **zero, sm_clock_mhz=0, temperature_celsius=0)
    reading = Nvml().report().readings[uuid(0)]
    assert (reading.memory_used_bytes, reading.utilization_percent) == (0, 0)
    assert (reading.power_watts, reading.sm_clock_mhz, reading.temperature_celsius) == (0, 0, 0)


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("memory_used_bytes", "memory_used_bytes"),
        ("memory_total_bytes", "memory_total_bytes"),
        ("temperature_celsius", "temperature_celsius"),
        ("utilization_percent", "utilization_percent"),
        ("power_milliwatts", "power_watts"),
        ("power_limit_milliwatts", "power_limit_watts"),
        ("sm_clock_mhz", "sm_clock_mhz"),
    ],
)
def test_what_nvml_does_not_know_is_none(host: SimulatedHost, key: str, field: str) -> None:
    host.set(uuid(0), **{key: "unsupported"})
    reading = Nvml().report().readings[uuid(0)]
    assert getattr(reading, field) is None
    assert reading.health is GpuHealth.OK


def test_an_identity_has_gaps_where_nvml_has(host: SimulatedHost) -> None:
    host.set(uuid(0), mig_mode="unsupported", compute_capability="unsupported")
    host.set(uuid(1), mig_mode="enabled", memory_total_bytes="unsupported")
    first, second = Nvml().report().gpus
    assert (first.mig_mode, first.compute_capability) == (None, None)
    assert (second.mig_mode, second.memory_total_bytes) == ("enabled", None)


def test_a_lost_gpu_keeps_its_name_and_the_other_its_values(host: SimulatedHost) -> None:
    nvml = Nvml()
    before = nvml.report()
    host.set(uuid(0), health="lost")
    after = nvml.report()
    assert after.gpus == before.gpus
    lost = GpuReading(uuid(0), health=GpuHealth.LOST)
    assert after.readings == {**before.readings, uuid(0): lost}
    host.set(uuid(0), health="ok")
    assert nvml.report().readings == before.readings


def test_a_gpu_lost_before_it_stated_its_uuid_is_named_by_index_until_it_does(
    host: SimulatedHost,
) -> None:
    host.set(uuid(0), health="lost")
    nvml = Nvml()
    report = nvml.report()
    assert [gpu.uuid for gpu in report.gpus] == [uuid(1)]
    assert report.error == "NVML has lost GPU 0 (by index) and cannot say its UUID."
    host.set(uuid(0), health="ok")
    assert nvml.report().error == report.error, "not looked for at every report"
    assert nvml._retry_at <= time.monotonic() + 10
    nvml._retry_at = time.monotonic()
    report = nvml.report()
    assert [gpu.uuid for gpu in report.gpus] == [uuid(0), uuid(1)]
    assert report.error is None


def test_a_gpu_that_answers_nothing_has_unknown_health(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = Nvml()
    nvml.report()

    def refuse(*_: object, **__: object) -> None:
        raise libnvml.NVMLError_Unknown

    monkeypatch.setattr(libnvml, "nvmlQuery", refuse)
    monkeypatch.setattr(Device, "driver_version", lambda: "1")
    monkeypatch.setattr(Device, "cuda_driver_version", lambda: "1")
    assert {reading.health for reading in nvml.report().readings.values()} == {GpuHealth.UNKNOWN}


def test_no_pcie_counter_is_read(host: SimulatedHost) -> None:
    nvml, device = Nvml(), Device(0)
    nvml.report()
    started = time.perf_counter()
    for _ in range(10):
        nvml.report()
    ten_reports = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(10):
        device.pcie_tx_throughput()
    assert ten_reports < time.perf_counter() - started


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("LibraryNotFound", "has no NVIDIA driver"),
        ("DriverNotLoaded", "not loaded"),
        ("LibRmVersionMismatch", "restart the host"),
        ("Unknown", "NVML does not work: Unknown Error."),
    ],
)
def test_a_driver_that_fails_is_one_sentence_and_is_tried_again(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch, error: str, sentence: str
) -> None:
    tries = []

    def fail() -> None:
        tries.append(error)
        raise getattr(libnvml, f"NVMLError_{error}")

    with monkeypatch.context() as broken:
        broken.setattr(libnvml, "nvmlInit", fail)
        nvml = Nvml()
        reports = [nvml.report() for _ in range(5)]
    assert all(sentence in str(report.error) for report in reports)
    assert all((report.gpus, report.driver_version) == ((), None) for report in reports)
    assert len(tries) == 1
    assert nvml._retry_at <= time.monotonic() + 10
    nvml._retry_at = time.monotonic()
    report = nvml.report()
    assert (report.error, len(report.gpus), report.driver_version) == (None, 2, "580.95.05")


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this host has a driver")
def test_without_a_driver_nothing_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = SimulatedHost(tmp_path)
    monkeypatch.setattr(
        SimulatedHost, "environment", {**host.environment, "LD_LIBRARY_PATH": str(tmp_path)}
    )
    report = host.run_python(
        "import json; from spawner.agent.nvml import Nvml; r = Nvml().report();"
        "print(json.dumps([r.error, r.gpus, r.driver_version]))"
    )
    sentence = "This host has no NVIDIA driver: libnvidia-ml.so.1 was not found."
    assert report == [sentence, [], None]
