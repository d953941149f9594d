"""Readings: defines the agent's report and builds its JSON answers.

``tests/contract/agent-*.json`` are golden samples of both answers. Unknown is always ``None``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from spawner.model import SIMULATED_SUFFIX, GpuHealth

SCHEMA = 1


@dataclass(frozen=True)
class MigInstance:
    """A MIG instance; ``mig_index`` is its number on the GPU, ``profile`` has the form ``1g.10gb``."""

    uuid: str
    mig_index: int
    profile: str
    memory_total_bytes: int | None


@dataclass(frozen=True)
class GpuIdentity:
    """Constant properties of a GPU; they stay known after the GPU is lost.

    GPUs of one ``nvlink_group`` reach each other over NVLink; the lowest index among them is the group's number.
    """

    uuid: str
    index: int
    name: str
    memory_total_bytes: int | None
    compute_capability: str | None
    pci_bus_id: str | None
    mig_mode: str | None
    numa_node: int | None = None
    nvlink_group: int | None = None
    mig_instances: tuple[MigInstance, ...] = ()

    @property
    def is_simulated(self) -> bool:
        """True for a GPU of the simulation library; its name carries the suffix."""
        return self.name.endswith(SIMULATED_SUFFIX)

    @property
    def leaf_uuids(self) -> tuple[str, ...]:
        """UUIDs of the leasable units: the GPU itself, or its MIG instances in MIG mode."""
        if self.mig_mode == "enabled":
            return tuple(instance.uuid for instance in self.mig_instances)
        return (self.uuid,)


@dataclass(frozen=True)
class GpuProcess:
    """A process on a GPU by its host PID; ``container_id`` is None outside containers."""

    pid: int
    container_id: str | None
    memory_used_bytes: int | None


@dataclass(frozen=True)
class GpuReading:
    """Variable values of one GPU or MIG instance; an instance has the temperature of its GPU."""

    uuid: str
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: int | None = None
    utilization_percent: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    sm_clock_mhz: int | None = None
    health: GpuHealth = GpuHealth.UNKNOWN
    processes: tuple[GpuProcess, ...] = ()


@dataclass(frozen=True)
class Xid:
    """An Xid error of the driver; ``number`` is NVIDIA's number, ``at`` is in Unix seconds."""

    number: int
    at: float


@dataclass(frozen=True)
class Report:
    """Result of one NVML sample; ``error`` is one sentence about missing GPUs.

    ``sampled_at`` is in seconds since the Unix epoch. ``readings`` has every GPU and MIG instance by UUID. ``xids``
    has the last fatal Xid by GPU UUID.
    """

    sampled_at: float
    host: str
    driver_version: str | None = None
    cuda_driver_version: str | None = None
    error: str | None = None
    gpus: tuple[GpuIdentity, ...] = ()
    readings: Mapping[str, GpuReading] = field(default_factory=dict)
    xids: Mapping[str, Xid] = field(default_factory=dict)

    @property
    def leaves(self) -> Iterator[GpuReading]:
        """Readings of all leasable units."""
        return (self.readings[uuid] for gpu in self.gpus for uuid in gpu.leaf_uuids)


def build_inventory(report: Report) -> dict[str, Any]:
    """Build the answer of ``/inventory``."""
    return {
        "schema": SCHEMA,
        "host": report.host,
        "driver_version": report.driver_version,
        "cuda_driver_version": report.cuda_driver_version,
        "error": report.error,
        "gpus": [_build_gpu(gpu, report) for gpu in report.gpus],
    }


def _build_gpu(gpu: GpuIdentity, report: Report) -> dict[str, Any]:
    xid = report.xids.get(gpu.uuid)
    return {
        **asdict(gpu),
        "health": report.readings[gpu.uuid].health.value,
        "simulated": gpu.is_simulated,
        "xid": None if xid is None else xid.number,
        "xid_at": None if xid is None else xid.at,
    }


def build_samples(report: Report) -> dict[str, Any]:
    """Build the answer of ``/samples``."""
    return {
        "schema": SCHEMA,
        "sampled_at": report.sampled_at,
        "error": report.error,
        "gpus": [{**asdict(reading), "health": reading.health.value} for reading in report.leaves],
    }
