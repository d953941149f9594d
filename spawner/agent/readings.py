"""What the agent knows of its GPUs, in the shapes of its JSON.

``tests/contract/agent-*.json`` are golden samples of both answers; unknown is always ``None``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from spawner.model import SIMULATED_SUFFIX, GpuHealth

SCHEMA = 1


@dataclass(frozen=True)
class GpuIdentity:
    """What of a GPU does not change while it works; known from then on, even if it is lost."""

    uuid: str
    index: int
    name: str
    memory_total_bytes: int | None
    compute_capability: str | None
    pci_bus_id: str | None
    mig_mode: str | None

    @property
    def is_simulated(self) -> bool:
        """True for a GPU of the simulation library; its name says so."""
        return self.name.endswith(SIMULATED_SUFFIX)


@dataclass(frozen=True)
class GpuProcess:
    """A process on a GPU by its PID on the host; ``container_id`` is null outside containers."""

    pid: int
    container_id: str | None
    memory_used_bytes: int | None


@dataclass(frozen=True)
class GpuReading:
    """One GPU at one moment."""

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
class Report:
    """Everything one look at NVML gave; ``error`` is one sentence saying what it could not see.

    ``sampled_at`` is in seconds since the epoch. Each GPU stands in both tuples, in one order.
    """

    sampled_at: float
    host: str
    driver_version: str | None = None
    cuda_driver_version: str | None = None
    error: str | None = None
    gpus: tuple[GpuIdentity, ...] = ()
    readings: tuple[GpuReading, ...] = ()


def build_inventory(report: Report) -> dict[str, Any]:
    """Build the answer of ``/inventory``."""
    return {
        "schema": SCHEMA,
        "host": report.host,
        "driver_version": report.driver_version,
        "cuda_driver_version": report.cuda_driver_version,
        "error": report.error,
        "gpus": [
            {**asdict(gpu), "health": reading.health.value, "simulated": gpu.is_simulated}
            for gpu, reading in zip(report.gpus, report.readings, strict=True)
        ],
    }


def build_samples(report: Report) -> dict[str, Any]:
    """Build the answer of ``/samples``."""
    return {
        "schema": SCHEMA,
        "sampled_at": report.sampled_at,
        "error": report.error,
        "gpus": [
            {**asdict(reading), "health": reading.health.value} for reading in report.readings
        ],
    }
