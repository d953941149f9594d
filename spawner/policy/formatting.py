"""Numbers and GPUs as people say them, for the sentences that policies give and the pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spawner.model import Gpu


def count_gpus(number: int, mig_profile: str | None = None) -> str:
    """Return ``"1 GPU"``, ``"2 GPUs"``, ``"1 MIG instance 1g.10gb"``, ``"2 MIG instances 1g.10gb"``."""
    plural = "" if number == 1 else "s"
    if mig_profile is None:
        return f"{number} GPU{plural}"
    return f"{number} MIG instance{plural} {mig_profile}"


def say_kinds(counts: Mapping[str | None, int]) -> str:
    """Return ``"2 GPUs and 7 MIG instances 1g.10gb"``, the numbers of each ``mig_profile``, or ``"no GPU"``."""
    *first, last = [count_gpus(number, kind) for kind, number in counts.items()] or ["no GPU"]
    return f"{', '.join(first)} and {last}" if first else last


def say_subject(subject: str, after: Mapping[str, Any] | None) -> str:
    """Return to whom or what an entry of the audit trail was done; of a lease, whose it is and how many GPUs it has."""
    if after is None or "gpu_count" not in after:
        return subject
    gpus = count_gpus(after["gpu_count"], after.get("mig_profile"))
    return f"{subject} ({after['user']}, {gpus})"


def name_gpu(gpu: Gpu) -> str:
    """Return ``"GPU 3"`` or ``"MIG instance 1 of GPU 3"``."""
    whole = f"GPU {gpu.index}"
    return whole if gpu.mig_index is None else f"MIG instance {gpu.mig_index} of {whole}"


def say_hours(hours: float) -> str:
    """Return ``"1 hour"``, ``"24 hours"``, ``"1.5 hours"``; two decimals, cut off and not rounded up."""
    shown = f"{int(hours * 100) / 100:g}"
    return f"{shown} hour" if shown == "1" else f"{shown} hours"


def say_duration(seconds: float) -> str:
    """Return ``"under a minute"``, ``"12 min"``, ``"3 h 5 min"``, ``"3 h"`` or ``"2 d 4 h"``."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return "under a minute"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (0 if days else minutes, "min"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
