"""Lets any number of askers share one look at NVML.

One thread looks, at most once per period, and only when somebody asks; the event loop never waits
inside NVML.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from spawner.agent.readings import Report


class Sampler:
    """The latest report, at most ``period_seconds`` old when it is asked for."""

    def __init__(
        self, look: Callable[[], Report], *, period_seconds: float = 1, patience_seconds: float = 5
    ) -> None:
        self._look = look
        self._period_seconds = period_seconds
        self._patience_seconds = patience_seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nvml")
        self._latest: asyncio.Future[Report] | None = None
        self._started_at = 0.0

    async def report(self) -> Report:
        """Return the latest report. Raises ``TimeoutError`` when NVML does not answer in time."""
        latest = self._latest
        if latest is None or (latest.done() and self._age_seconds >= self._period_seconds):
            latest = self.begin()
        return await asyncio.wait_for(asyncio.shield(latest), self._patience_seconds)

    def begin(self) -> asyncio.Future[Report]:
        """Begin a look without waiting for it."""
        self._started_at = time.monotonic()
        self._latest = asyncio.get_running_loop().run_in_executor(self._thread, self._look)
        return self._latest

    @property
    def is_stuck(self) -> bool:
        """True while a look has lasted longer than an asker would wait."""
        is_looking = self._latest is not None and not self._latest.done()
        return is_looking and self._age_seconds > self._patience_seconds

    @property
    def _age_seconds(self) -> float:
        return time.monotonic() - self._started_at

    def close(self) -> None:
        """Let go of the thread; a look in progress ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)
