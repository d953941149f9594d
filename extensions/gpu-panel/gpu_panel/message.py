"""The one message of the stream: its values and their JSON form.

Unknown is ``None`` here and ``null`` there, units stand in the names, and the keys are those of
``tests/contract/panel-message.json``, which the front end's tests read too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

SCHEMA = 4
ACTIVITY_SCHEMA = 1
SIMULATED_SUFFIX = "(simulated)"


class GpuHealth(StrEnum):
    """What NVML says of a GPU: ``UNKNOWN`` when it gave an error other than "lost"."""

    OK = "ok"
    LOST = "lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class GpuReading:
    """One GPU or MIG instance at one moment; ``index`` counts what this server sees, from 0."""

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
        """True for a GPU that only the simulation library knows; its name says so."""
        return self.name is not None and self.name.endswith(SIMULATED_SUFFIX)


@dataclass(frozen=True)
class Reading:
    """All GPUs of this server at one moment, in seconds since the Unix epoch.

    ``error`` is a sentence for people when the driver as a whole does not answer. A server
    without GPUs has no GPUs and no error.
    """

    sampled_at: float
    gpus: tuple[GpuReading, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Lease:
    """What the hub says of this server's lease.

    ``seconds_left`` is None for one without an end, and below 0 once its time is over. ``most_hours`` is
    the longest that a lease may last from now on, None where there is no bound. ``trouble`` is a sentence for
    people when a GPU has failed. ``idle_seconds_left`` is until its GPUs are given back because nothing uses them,
    None unless that is soon; ``gpus_given_back`` is how many it had for which that came, None where it did not.
    ``confirmed`` is False where the hub did not answer lately: then the lease is as it was last known.
    """

    state: str | None
    gpu_count: int
    seconds_left: float | None
    most_hours: float | None
    trouble: str | None
    idle_seconds_left: float | None
    gpus_given_back: int | None
    confirmed: bool


@dataclass(frozen=True)
class Activity:
    """What this server does, as it tells the hub; ``tests/contract/panel-activity.json`` is the sample.

    How many kernels compute, and how long ago the last kernel, and the last terminal, did anything, since the start of
    the server where there is none; None is unknown.
    """

    busy_kernels: int | None
    kernels_quiet_seconds: float | None
    terminals_quiet_seconds: float | None


def build_message(
    reading: Reading,
    period_seconds: float,
    history: Sequence[Reading] = (),
    lease: Lease | None = None,
) -> bytes:
    """Return the message for ``reading``; ``history`` is older readings, oldest first."""
    message = {
        "schema": SCHEMA,
        "sampled_at": reading.sampled_at,
        "period_seconds": period_seconds,
        "error": reading.error,
        "gpus": [{**asdict(gpu), "simulated": gpu.is_simulated} for gpu in reading.gpus],
        "history": _build_history(history),
        "lease": None if lease is None else asdict(lease),
    }
    return json.dumps(message, separators=(",", ":")).encode()


def _build_history(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """Return one entry of equally long columns per GPU, in the order of first appearance."""
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
