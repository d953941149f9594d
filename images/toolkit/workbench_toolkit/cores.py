"""Processor cores: counts the cores that this container may use, which are fewer than the host's."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(limit: Path = CGROUP_LIMIT) -> int:
    """Return the number of whole cores, at least 1, from the affinity and the control group's quota."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = limit.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
