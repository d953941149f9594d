"""Stream message: its values and their JSON form.

An unknown value is ``None`` in Python and ``null`` in JSON; names carry units.
The keys are those of ``tests/contract/panel-message.json``, which the front end's tests read too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

SCHEMA = 6
ACTIVITY_SCHEMA = 1
SIMULATED_SUFFIX = "(simulated)"


class GpuHealth(StrEnum):
    """The state of a GPU in NVML; ``UNKNOWN`` for an error other than "lost"."""

    OK = "ok"
    LOST = "lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class GpuReading:
    """One GPU or MIG instance at one moment; ``index`` counts the devices of this server from 0."""

    uuid: str | None
    index: int
    name: str | None
    health: GpuHealth
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    temperature_celsius: int | None
    utilization_percent: int | None
    power_watts: float | None
    power_limit_watts: float | None

    @property
    def is_simulated(self) -> bool:
        """Whether the simulation library made this GPU; its name ends with ``SIMULATED_SUFFIX``."""
        return self.name is not None and self.name.endswith(SIMULATED_SUFFIX)


@dataclass(frozen=True)
class Reading:
    """All GPUs of this server at one moment, in seconds since the Unix epoch.

    ``error`` is a sentence for the user when the driver does not answer.
    A server without GPUs has no GPUs and no error.
    """

    sampled_at: float
    gpus: tuple[GpuReading, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Lease:
    """The lease of this server, as the hub describes it.

    ``seconds_left``: None for a lease without an end, below 0 once it has expired.
    ``max_hours``: the longest duration from now, None without a bound.
    ``trouble``: a sentence for the user when a GPU has failed.
    ``idle_seconds_left``: until the release of its unused GPUs, None unless a release is due.
    ``gpus_given_back``: the number of GPUs that an idle release took, None without one.
    ``home_size_bytes`` and ``home_quota_bytes``: the size of the home and its bound, None without a quota.
    ``confirmed``: False while the hub does not answer; the lease is then the last known one.
    """

    state: str | None
    gpu_count: int
    seconds_left: float | None
    max_hours: float | None
    trouble: str | None
    idle_seconds_left: float | None
    gpus_given_back: int | None
    confirmed: bool
    home_size_bytes: int | None = None
    home_quota_bytes: int | None = None


@dataclass(frozen=True)
class ServerReading:
    """CPU, memory and disk of this server at one moment; a limit of None is no limit or an unknown one.

    ``cpu_cores`` is the CPU time per second: 1.0 is one busy core. The disk is the file system of the home.
    """

    cpu_cores: float | None = None
    cpu_cores_limit: float | None = None
    memory_used_bytes: int | None = None
    memory_limit_bytes: int | None = None
    disk_used_bytes: int | None = None
    disk_total_bytes: int | None = None


@dataclass(frozen=True)
class Activity:
    """The activity of this server; ``tests/contract/panel-activity.json`` is the sample.

    ``busy_kernels`` is a count. The other two are the seconds since the last activity of any kernel and any terminal,
    or since the start of the server without one. None is unknown. ``notices`` are sentences for the user.
    """

    busy_kernels: int | None
    kernels_quiet_seconds: float | None
    terminals_quiet_seconds: float | None
    notices: tuple[str, ...] = ()


def build_message(
    reading: Reading,
    period_seconds: float,
    history: Sequence[Reading] = (),
    lease: Lease | None = None,
    server: ServerReading | None = None,
    notices: Sequence[str] = (),
) -> bytes:
    """Return the message for ``reading``; ``history`` holds older readings, oldest first."""
    message = {
        "schema": SCHEMA,
        "sampled_at": reading.sampled_at,
        "period_seconds": period_seconds,
        "error": reading.error,
        "gpus": [{**asdict(gpu), "simulated": gpu.is_simulated} for gpu in reading.gpus],
        "history": _build_history(history),
        "lease": None if lease is None else asdict(lease),
        "server": asdict(server or ServerReading()),
        "notices": list(notices),
    }
    return json.dumps(message, separators=(",", ":")).encode()


def _build_history(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """Return one entry per GPU, with columns of equal length, in the order of first appearance."""
    columns: dict[str, dict[str, Any]] = {}
    for reading in readings:
        for gpu in reading.gpus:
            if gpu.uuid is None:
                continue
            entry = columns.setdefault(
                gpu.uuid,
                {
                    "uuid": gpu.uuid,
                    "sampled_at": [],
                    "memory_used_bytes": [],
                    "temperature_celsius": [],
                    "utilization_percent": [],
                },
            )
            entry["sampled_at"].append(reading.sampled_at)
            entry["memory_used_bytes"].append(gpu.memory_used_bytes)
            entry["temperature_celsius"].append(gpu.temperature_celsius)
            entry["utilization_percent"].append(gpu.utilization_percent)
    return list(columns.values())
