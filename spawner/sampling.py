"""Looks at all GPUs at a fixed period, and lets the ledger count how busy they were.

One question serves everybody; what the agent does not say is unknown and counts as nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from spawner.gpus import GpuSample
from spawner.ledger import Ledger
from spawner.model import Unknown
from spawner.serial_executor import SerialExecutor

log = logging.getLogger("workbench.gpu_sampler")


class Samples(Protocol):
    """Who knows how GPUs are now; raises Unknown."""

    async def samples(self) -> Mapping[str, GpuSample]:
        """Return how each GPU and MIG instance is, by UUID."""


@dataclass(frozen=True)
class GpuSnapshot:
    """How the GPUs were ``at`` a moment of the lease clock, by UUID; whatever is not in ``samples`` is unknown."""

    at: float
    samples: Mapping[str, GpuSample]


Listener = Callable[[GpuSnapshot], Awaitable[None]]


class GpuSampler:
    """The look at all GPUs of one host, and whoever wants to know what it saw."""

    def __init__(
        self, ledger: Ledger, gpus: Samples, clock: Callable[[], float], period_seconds: float
    ) -> None:
        """Ask nobody yet."""
        self._ledger = ledger
        self._in_ledger = SerialExecutor("accounting")
        self._gpus = gpus
        self._clock = clock
        self._period_seconds = period_seconds
        self._complaint = ""
        self.listeners: list[Listener] = []

    async def run(self) -> None:
        """GpuSnapshot for ever, at the period, however long a look takes."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self.look()
            # what was missed is not made up for
            due = max(due + self._period_seconds, loop.time())
            await asyncio.sleep(due - loop.time())

    async def look(self) -> None:
        """GpuSnapshot once: count what is known, and tell the listeners even if that is nothing."""
        samples: Mapping[str, GpuSample] = {}
        complaint = ""
        try:
            samples = await self._gpus.samples()
        except Unknown as error:
            complaint = str(error)
        seen = GpuSnapshot(self._clock(), samples)
        busy = {
            uuid: sample.utilization_percent / 100
            for uuid, sample in samples.items()
            if sample.utilization_percent is not None
        }
        if busy:
            try:
                await self._in_ledger(
                    self._ledger.add_samples,
                    busy,
                    now=seen.at,
                    period_seconds=self._period_seconds,
                )
            except Unknown as error:
                complaint = str(error)
        if complaint and complaint != self._complaint:
            log.warning("Nobody knows how busy the GPUs are: %s", complaint)
        self._complaint = complaint
        for listener in self.listeners:
            await listener(seen)
