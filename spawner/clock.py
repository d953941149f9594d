"""Lease clock: counts seconds since the Unix epoch, independent of changes of the wall clock.

The clock advances with CLOCK_BOOTTIME, so it runs on during machine sleep and without a hub. The ledger stores its
offset, so a restarted hub continues the same clock. After a reboot it starts from the wall clock, never before its
last heartbeat.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from spawner.model import Heartbeat

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class HeartbeatStore(Protocol):
    """Storage for the heartbeat, across hub restarts."""

    def heartbeat(self) -> Heartbeat | None:
        """Return the last heartbeat, or None before the first."""

    def record_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Replace the stored heartbeat."""


def read_boot_id() -> str:
    """Return the kernel's id of this boot."""
    return BOOT_ID.read_text().strip()


def read_boottime() -> float:
    """Return the seconds since this boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """The lease clock; a call returns the time.

    ``start`` and ``record_heartbeat`` block on the ledger, so they run outside the event loop.
    """

    def __init__(
        self,
        store: HeartbeatStore,
        boot_id: Callable[[], str] = read_boot_id,
        boottime: Callable[[], float] = read_boottime,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Keep the time sources; ``start`` reads them first."""
        self._store = store
        self._read_boot_id = boot_id
        self._boottime = boottime
        self._wall = wall
        self._boot_id = ""
        self._offset_seconds = 0.0

    def start(self) -> None:
        """Continue the clock of the last hub; raises Unknown when the ledger does not answer."""
        self._boot_id = self._read_boot_id()
        last = self._store.heartbeat()
        if last is not None and last.boot_id == self._boot_id:
            self._offset_seconds = last.offset_seconds
        else:
            begins_at = self._wall() if last is None else max(self._wall(), last.at)
            self._offset_seconds = begins_at - self._boottime()
        self.record_heartbeat()

    def record_heartbeat(self) -> None:
        """Store the current time in the ledger; raises Unknown."""
        self._store.record_heartbeat(Heartbeat(self._boot_id, self._offset_seconds, self()))

    def __call__(self) -> float:
        """Return the time; requires ``start``."""
        return self._boottime() + self._offset_seconds

    def wall(self) -> float:
        """Return the wall clock time, which Docker uses in its events."""
        return self._wall()

    def to_wall(self, at: float) -> float:
        """Return the wall clock time of the lease clock time ``at``, in seconds since the Unix epoch."""
        return self._wall() + at - self()
