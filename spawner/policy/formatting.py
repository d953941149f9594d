"""Formatting: turns numbers, times and GPUs into text for refusals and pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spawner.model import Gpu


def format_gpu_count(number: int, mig_profile: str | None = None) -> str:
    """Return ``"1 GPU"``, ``"2 GPUs"``, ``"1 MIG instance 1g.10gb"``, ``"2 MIG instances 1g.10gb"``."""
    plural = "" if number == 1 else "s"
    if mig_profile is None:
        return f"{number} GPU{plural}"
    return f"{number} MIG instance{plural} {mig_profile}"


def format_kinds(counts: Mapping[str | None, int]) -> str:
    """Return the numbers of all profiles, as in ``"2 GPUs and 7 MIG instances 1g.10gb"``, or ``"no GPU"``."""
    *first, last = [format_gpu_count(number, kind) for kind, number in counts.items()] or ["no GPU"]
    return f"{', '.join(first)} and {last}" if first else last


def format_subject(subject: str, after: Mapping[str, Any] | None) -> str:
    """Return the subject of an audit trail entry; for a lease, its user and its number of GPUs follow."""
    if after is None or "gpu_count" not in after:
        return subject
    gpus = format_gpu_count(after["gpu_count"], after.get("mig_profile"))
    return f"{subject} ({after['user']}, {gpus})"


def format_gpu_name(gpu: Gpu) -> str:
    """Return ``"GPU 3"`` or ``"MIG instance 1 of GPU 3"``."""
    whole = f"GPU {gpu.index}"
    return whole if gpu.mig_index is None else f"MIG instance {gpu.mig_index} of {whole}"


def format_bytes(size: int) -> str:
    """Return ``"3.2 GiB"`` or ``"512 MiB"``, in the largest unit that leaves a number of at least 1."""
    for unit, power in (("TiB", 4), ("GiB", 3), ("MiB", 2)):
        if size >= 1024**power:
            number = size / 1024**power
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{-(-size // 1024)} KiB"


def format_hours(hours: float) -> str:
    """Return ``"1 hour"``, ``"24 hours"`` or ``"1.5 hours"``, truncated to two decimals.

    Rounding up would promise more time than there is.
    """
    shown = f"{int(hours * 100) / 100:g}"
    return f"{shown} hour" if shown == "1" else f"{shown} hours"


def format_duration(seconds: float) -> str:
    """Return ``"under a minute"``, ``"12 min"``, ``"3 h 5 min"``, ``"3 h"`` or ``"2 d 4 h"``."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return "under a minute"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (0 if days else minutes, "min"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
