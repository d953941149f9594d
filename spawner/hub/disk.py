"""Disk: watches the free space under the workbench's data and the sizes of homes against their quota.

An unknown size refuses nothing. Running servers go on: only a new start is refused.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from spawner.controller.user_homes import UserHomes
from spawner.hub.metrics import publish_disk
from spawner.ledger import Ledger
from spawner.ledger.trail import HUB, TrailAction, TrailEntry
from spawner.model import Reason, Refused, StartMode, Unknown
from spawner.policy.formatting import format_bytes

log = logging.getLogger(__name__)

PERIOD_SECONDS = 60.0
LOW_PERCENT = 10
WARNING_PERCENT = 90
"""From this part of its quota on, a page warns that the home is nearly full."""
RECOVERED_PERCENT = (
    12  # above LOW_PERCENT, so that one file does not change the state back and forth
)


class HomeUse(NamedTuple):
    """How much of its quota a home takes, as one sentence."""

    sentence: str
    is_nearly_full: bool


class DiskWatch:
    """The last known free space and home sizes of one instance."""

    def __init__(
        self,
        ledger: Ledger,
        homes: UserHomes,
        clock: Callable[[], float],
        home_quota_bytes: int | None,
        folder: Path,
    ) -> None:
        """Take the dependencies; ``folder`` is on the file system of Docker's volumes."""
        self._ledger = ledger
        self._homes = homes
        self._clock = clock
        self._quota = home_quota_bytes
        self._folder = folder
        self._sizes: Mapping[str, int] = {}
        self._free: int | None = None
        self._total: int | None = None
        self._is_low = False

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            try:
                await self.update()
            except (Unknown, OSError) as error:
                log.warning("Disk not read: state=unknown reason=%s", error)
            await asyncio.sleep(PERIOD_SECONDS)

    async def update(self) -> None:
        """Read the free space and the sizes of homes once; raises Unknown, OSError."""
        # in a thread: a file system that hangs must not stop the hub
        read = await asyncio.to_thread(os.statvfs, self._folder)
        self._free, self._total = read.f_bavail * read.f_frsize, read.f_blocks * read.f_frsize
        publish_disk(self._free, self._total)
        await self._record(self._free, self._total)
        if self._quota is not None:
            self._sizes = await self._homes.sizes()

    @property
    def trouble(self) -> str | None:
        """One sentence for admins while the disk is nearly full."""
        if not self._is_low or self._free is None or self._total is None:
            return None
        return (
            f"Only {format_bytes(self._free)} of {format_bytes(self._total)} are free on the disk of the homes: "
            "remove files, or homes of deleted users (workbench home list)."
        )

    @property
    def quota_bytes(self) -> int | None:
        """The bound on the size of each home, None without one."""
        return self._quota

    def home_size(self, identity: str) -> int | None:
        """Return the last known size of a user's home in bytes; None without a quota, which alone measures."""
        return self._sizes.get(identity)

    def home_use(self, identity: str) -> HomeUse | None:
        """Return how much of their quota a user's home takes; None if that is unknown or above the quota."""
        size = self._sizes.get(identity)
        if self._quota is None or size is None or size > self._quota:
            return None
        return HomeUse(
            f"Your home has {format_bytes(size)} of {format_bytes(self._quota)}.",
            100 * size >= WARNING_PERCENT * self._quota,
        )

    def home_trouble(self, identity: str) -> str | None:
        """Return one sentence for a user whose home is larger than its quota."""
        size = self._sizes.get(identity)
        if self._quota is None or size is None or size <= self._quota:
            return None
        return (
            f"Your home has {format_bytes(size)} and may have {format_bytes(self._quota)}: delete files in a "
            "running server or in one that you start to repair your home; it is measured again within half an hour."
        )

    def refuse_start(self, identity: str, start_mode: StartMode) -> Refused | None:
        """Return why this user starts no new server, None if nothing is known against it.

        A start to repair the home is never refused, because files can be deleted there.
        """
        if start_mode is StartMode.REPAIR:
            return None
        trouble = self.home_trouble(identity)
        return None if trouble is None else Refused(Reason.HOME_FULL, trouble)

    async def _record(self, free: int, total: int) -> None:
        percent = 100 * free / total if total else 100.0
        is_low = percent < (RECOVERED_PERCENT if self._is_low else LOW_PERCENT)
        if is_low == self._is_low:
            return
        action = TrailAction.DISK_LOW if is_low else TrailAction.DISK_RECOVERED
        log.warning("Disk: state=%s free=%s total=%s", action.value, free, total)
        entry = TrailEntry(
            self._clock(), HUB, action, "disk", None, {"free_bytes": free, "size_bytes": total}
        )
        await asyncio.to_thread(self._ledger.add_entry, entry)
        self._is_low = is_low
