"""Sampler: shares one NVML report among all requests.

One thread samples on request, at most once per period. The event loop never blocks inside NVML.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from spawner.agent.readings import Report


class Sampler:
    """Provider of a report that is at most ``period_seconds`` old."""

    def __init__(
        self, sample: Callable[[], Report], *, period_seconds: float = 1, timeout_seconds: float = 5
    ) -> None:
        self._sample = sample
        self._period_seconds = period_seconds
        self._timeout_seconds = timeout_seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nvml")
        self._latest: asyncio.Future[Report] | None = None
        self._started_at = 0.0

    async def report(self) -> Report:
        """Return the latest report. Raises ``TimeoutError`` when NVML does not answer in time."""
        latest = self._latest
        if latest is None or (latest.done() and self._age_seconds >= self._period_seconds):
            latest = self.start_sample()
        return await asyncio.wait_for(asyncio.shield(latest), self._timeout_seconds)

    def start_sample(self) -> asyncio.Future[Report]:
        """Start a sample without waiting for its result."""
        self._started_at = time.monotonic()
        self._latest = asyncio.get_running_loop().run_in_executor(self._thread, self._sample)
        return self._latest

    @property
    def is_stuck(self) -> bool:
        """True while a sample lasts longer than the timeout of a request."""
        is_sampling = self._latest is not None and not self._latest.done()
        return is_sampling and self._age_seconds > self._timeout_seconds

    @property
    def _age_seconds(self) -> float:
        return time.monotonic() - self._started_at

    def close(self) -> None:
        """Release the thread; a sample in progress runs to its end."""
        self._thread.shutdown(wait=False, cancel_futures=True)
