"""GPU sampling: samples all GPUs at a fixed period and accounts their utilization in the ledger.

One request per period serves every listener. A value without an answer is unknown and counts as nothing.
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

log = logging.getLogger(__name__)


class SampleSource(Protocol):
    """Source of GPU samples; raises Unknown."""

    async def samples(self) -> Mapping[str, GpuSample]:
        """Return the current sample of each GPU and MIG instance, by UUID."""


@dataclass(frozen=True)
class GpuSnapshot:
    """Samples of all GPUs ``at`` a time of the lease clock; a UUID that is not in ``samples`` is unknown."""

    at: float
    samples: Mapping[str, GpuSample]


Listener = Callable[[GpuSnapshot], Awaitable[None]]


class GpuSampler:
    """Periodic sampler of all GPUs; ``listeners`` receive each snapshot."""

    def __init__(
        self, ledger: Ledger, gpus: SampleSource, clock: Callable[[], float], period_seconds: float
    ) -> None:
        """Prepare the sampler; ``run`` takes the first sample."""
        self._ledger = ledger
        self._in_ledger = SerialExecutor("accounting")
        self._gpus = gpus
        self._clock = clock
        self._period_seconds = period_seconds
        self._last_problem = ""
        self.listeners: list[Listener] = []

    async def run(self) -> None:
        """Sample once per period until cancelled; a slow sample does not move the schedule."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self.sample()
            # a missed period is skipped, not repeated
            due = max(due + self._period_seconds, loop.time())
            await asyncio.sleep(due - loop.time())

    async def sample(self) -> None:
        """Take one snapshot, account the known values, and notify the listeners even if it is empty."""
        samples: Mapping[str, GpuSample] = {}
        problem = ""
        try:
            samples = await self._gpus.samples()
        except Unknown as error:
            problem = str(error)
        snapshot = GpuSnapshot(self._clock(), samples)
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
                    now=snapshot.at,
                    period_seconds=self._period_seconds,
                )
            except Unknown as error:
                problem = str(error)
        if problem and problem != self._last_problem:
            log.warning("gpu_utilization state=unknown reason=%s", problem)
        self._last_problem = problem
        for listener in self.listeners:
            await listener(snapshot)
