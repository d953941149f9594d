"""The agent's report of a divided GPU, through nvitop and the simulated library."""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from nvitop import MigDevice

from simulation.host import SimulatedHost
from simulation.simulate import gpu_uuid
from spawner.agent.nvml import Nvml
from spawner.agent.readings import (
    GpuProcess,
    GpuReading,
    MigInstance,
    Report,
    build_inventory,
    build_samples,
)
from spawner.model import GpuHealth

GIB = 2**30
PID = os.getpid()
WHOLE, DIVIDED = gpu_uuid(0), gpu_uuid(1)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimulatedHost]:
    """A host with a whole GPU and one in three parts."""
    host = SimulatedHost(tmp_path / "gpus")
    host.add(0)
    host.add(1, temperature_celsius=61)
    host.divide(1, "1g.10gb", "1g.10gb", "3g.40gb")
    with host.opened():
        yield host


def parts_of(report: Report) -> tuple[MigInstance, ...]:
    return report.gpus[1].mig_instances


def test_a_divided_gpu_has_its_instances(host: SimulatedHost) -> None:
    report = Nvml().report()
    whole, divided = report.gpus
    assert (whole.mig_mode, whole.mig_instances) == ("disabled", ())
    assert divided.mig_mode == "enabled"
    assert [dataclasses.astuple(part)[1:] for part in divided.mig_instances] == [
        (0, "1g.10gb", 10 * GIB),
        (1, "1g.10gb", 10 * GIB),
        (2, "3g.40gb", 40 * GIB),
    ]
    assert len({part.uuid for part in divided.mig_instances}) == 3
    assert report.error is None


def test_samples_have_the_instances_in_place_of_their_gpu(host: SimulatedHost) -> None:
    report = Nvml().report()
    parts = [part.uuid for part in parts_of(report)]
    assert [gpu["uuid"] for gpu in build_samples(report)["gpus"]] == [WHOLE, *parts]
    assert [gpu["uuid"] for gpu in build_inventory(report)["gpus"]] == [WHOLE, DIVIDED]


def test_an_instance_has_its_own_memory_and_processes_and_its_gpus_temperature(
    host: SimulatedHost,
) -> None:
    nvml = Nvml()
    first, second, _ = (part.uuid for part in parts_of(nvml.report()))
    host.set(second, memory_used_bytes=3 * GIB, process=f"{PID}:5")
    host.set(DIVIDED, temperature_celsius=77)
    report = nvml.report()
    assert report.readings[second] == GpuReading(
        uuid=second,
        memory_used_bytes=3 * GIB,
        memory_total_bytes=10 * GIB,
        temperature_celsius=77,
        health=GpuHealth.OK,
        processes=(GpuProcess(PID, report.readings[second].processes[0].container_id, 5),),
    )
    assert report.readings[first].processes == ()
    assert report.readings[first].memory_used_bytes == GIB
    assert report.readings[DIVIDED].utilization_percent is None, "nobody knows it with MIG"


def test_an_instance_is_lost_with_its_gpu(host: SimulatedHost) -> None:
    nvml = Nvml()
    before = nvml.report()
    host.set(DIVIDED, health="lost")
    after = nvml.report()
    assert after.gpus == before.gpus
    for uuid in (DIVIDED, *(part.uuid for part in parts_of(before))):
        assert after.readings[uuid] == GpuReading(uuid, health=GpuHealth.LOST)
    assert after.readings[WHOLE].health is GpuHealth.OK


def test_an_instance_that_was_removed_has_unknown_health(host: SimulatedHost) -> None:
    nvml = Nvml()
    first, second, _ = (part.uuid for part in parts_of(nvml.report()))
    shutil.rmtree(host.folder / first)
    report = nvml.report()
    assert report.readings[first].health is GpuHealth.UNKNOWN
    assert report.readings[second].health is GpuHealth.OK


def test_instances_behind_a_gap_are_found(host: SimulatedHost) -> None:
    first, second, third = (part.uuid for part in parts_of(Nvml().report()))
    shutil.rmtree(host.folder / first)
    found = parts_of(Nvml().report())
    assert [(part.uuid, part.mig_index) for part in found] == [(second, 1), (third, 2)]


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", "1g.10gb"),
        ("NVIDIA H200 MIG 7g.141gb", "7g.141gb"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", "1g.10gb+me"),
        ("NVIDIA RTX PRO 6000 MIG 1g.24gb-me", "1g.24gb-me"),
        ("NVIDIA A100-SXM4-40GB MIG 2c.3g.20gb", "2c.3g.20gb"),
    ],
)
def test_the_profile_is_what_nvml_calls_it(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch, name: str, profile: str
) -> None:
    monkeypatch.setattr(MigDevice, "name", lambda _: name)
    assert {part.profile for part in parts_of(Nvml().report())} == {profile}


@pytest.mark.parametrize("name", ["N/A", "NVIDIA A100-SXM4-80GB", "NVIDIA MIG 10gb"])
def test_a_profile_is_never_guessed(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(MigDevice, "name", lambda _: name)
    report = Nvml().report()
    assert parts_of(report) == ()
    assert report.error == "NVML does not report the profile of MIG instance 0, 1, 2 of GPU 1."
    assert [gpu["uuid"] for gpu in build_samples(report)["gpus"]] == [WHOLE]
