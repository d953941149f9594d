"""Server reading: reads the CPU time, memory and disk of this server from its cgroup and the file system of its home.

A file that is missing or unreadable makes its values unknown. The folder has the files of version 2 of cgroups, or
folders with those of version 1.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from gpu_panel.message import ServerReading

CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED_BYTES = 2**60
"""Version 1 of cgroups writes a number above this for no limit."""


class ServerReader:
    """Reads this server; the CPU time is that since the reading before."""

    def __init__(
        self,
        home: Path,
        cgroup: Path = CGROUP,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._cgroup = cgroup
        self._clock = clock
        self._cpu: tuple[float, float] | None = None

    def __call__(self) -> ServerReading:
        """Return the reading of this moment."""
        disk_used, disk_total = read_disk(self._home)
        return ServerReading(
            cpu_cores=self._read_cpu(),
            cpu_cores_limit=read_cpu_limit(self._cgroup),
            memory_used_bytes=read_memory_used(self._cgroup),
            memory_limit_bytes=read_memory_limit(self._cgroup),
            disk_used_bytes=disk_used,
            disk_total_bytes=disk_total,
        )

    def _read_cpu(self) -> float | None:
        used = read_cpu_seconds(self._cgroup)
        now, before = self._clock(), self._cpu
        self._cpu = None if used is None else (now, used)
        if before is None or self._cpu is None or now <= before[0]:
            return None
        return round(max(self._cpu[1] - before[1], 0.0) / (now - before[0]), 2)


def read_cpu_seconds(cgroup: Path) -> float | None:
    """Return the CPU time that this server has used."""
    microseconds = read_counter(cgroup / "cpu.stat", "usage_usec")
    if microseconds is not None:
        return microseconds / 1e6
    nanoseconds = _read_text(cgroup / "cpuacct" / "cpuacct.usage").strip()
    return int(nanoseconds) / 1e9 if nanoseconds.isdecimal() else None


def read_cpu_limit(cgroup: Path) -> float | None:
    """Return how many cores this server may use, None without a limit."""
    quota, _, period = _read_text(cgroup / "cpu.max").partition(" ")
    if not quota:
        quota = _read_text(cgroup / "cpu" / "cpu.cfs_quota_us").strip()
        period = _read_text(cgroup / "cpu" / "cpu.cfs_period_us")
    if not (quota.isdecimal() and period.strip().isdecimal() and int(period)):
        return None
    return round(int(quota) / int(period), 2)


def read_memory_limit(cgroup: Path) -> int | None:
    """Return how many bytes this server may use, None without a limit."""
    text = _read_text(cgroup / "memory.max") or _read_text(
        cgroup / "memory" / "memory.limit_in_bytes"
    )
    is_limit = text.strip().isdecimal() and int(text) < _UNLIMITED_BYTES
    return int(text) if is_limit else None


def read_memory_used(cgroup: Path) -> int | None:
    """Return the used bytes, without pages of files that the kernel frees when it needs them."""
    text = _read_text(cgroup / "memory.current") or _read_text(
        cgroup / "memory" / "memory.usage_in_bytes"
    )
    if not text.strip().isdecimal():
        return None
    freed = read_counter(cgroup / "memory.stat", "inactive_file") or read_counter(
        cgroup / "memory" / "memory.stat", "total_inactive_file"
    )
    return max(int(text) - (freed or 0), 0)


def read_kills(cgroup: Path) -> int | None:
    """Return how many processes of this server were ended because the memory was used up."""
    found = read_counter(cgroup / "memory.events", "oom_kill")
    if found is None:
        found = read_counter(cgroup / "memory" / "memory.oom_control", "oom_kill")
    return found


def read_counter(path: Path, name: str) -> int | None:
    """Return the number behind ``name`` in a file of one pair a line."""
    for line in _read_text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return None


def read_disk(folder: Path) -> tuple[int | None, int | None]:
    """Return the used and all bytes of the file system of ``folder``, or of its quota where it has one."""
    try:
        read = os.statvfs(folder)
    except OSError:
        return None, None
    return (read.f_blocks - read.f_bavail) * read.f_frsize, read.f_blocks * read.f_frsize


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
