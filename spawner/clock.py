"""The lease clock: seconds since the Unix epoch that no change of the wall clock moves.

It advances with CLOCK_BOOTTIME, so it goes on while the machine sleeps or no hub runs; the ledger keeps its offset, so
that a restarted hub goes on with the same clock. After a reboot it starts from the wall clock, never behind its last
heartbeat.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from spawner.model import Heartbeat

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class HeartbeatStore(Protocol):
    """Who keeps the heartbeat between two hubs."""

    def heartbeat(self) -> Heartbeat | None:
        """Return the last heartbeat."""

    def record_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Keep this one in its place."""


def read_boot_id() -> str:
    """Return what names this boot of the machine."""
    return BOOT_ID.read_text().strip()


def read_boottime() -> float:
    """Return the seconds since this boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """One reading of the lease clock after the other; call it for the time.

    ``start`` and ``beat`` wait for the ledger: keep them off the event loop.
    """

    def __init__(
        self,
        keeper: HeartbeatStore,
        boot_id: Callable[[], str] = read_boot_id,
        boottime: Callable[[], float] = read_boottime,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Read nothing yet."""
        self._keeper = keeper
        self._read_boot_id = boot_id
        self._boottime = boottime
        self._wall = wall
        self._boot_id = ""
        self._offset_seconds = 0.0

    def start(self) -> None:
        """Go on where the last hub's clock is by now; raises Unknown when the ledger does not answer."""
        self._boot_id = self._read_boot_id()
        last = self._keeper.heartbeat()
        if last is not None and last.boot_id == self._boot_id:
            self._offset_seconds = last.offset_seconds
        else:
            begins_at = self._wall() if last is None else max(self._wall(), last.at)
            self._offset_seconds = begins_at - self._boottime()
        self.record_heartbeat()

    def record_heartbeat(self) -> None:
        """Let the ledger know the time; raises Unknown."""
        self._keeper.record_heartbeat(Heartbeat(self._boot_id, self._offset_seconds, self()))

    def __call__(self) -> float:
        """Return the time; ``start`` comes first."""
        return self._boottime() + self._offset_seconds

    def wall(self) -> float:
        """Return the wall clock, by which Docker dates what it tells."""
        return self._wall()

    def to_wall(self, at: float) -> float:
        """Return what people's clocks show at the lease clock's ``at``, in seconds since the Unix epoch."""
        return self._wall() + at - self()
