"""The steps of one spawn, as they happen, for any number of viewers.

A viewer who comes late is told every step from the first on, and every viewing ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One thing that began, ``elapsed_seconds`` after the spawn did."""

    percent: int
    message: str
    elapsed_seconds: float


class Progress:
    """The growing list of steps of one spawn; belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin now."""
        self._clock = clock
        self._began_at = clock()
        self._steps: list[Step] = []
        self._is_finished = False
        self._changed = asyncio.Event()

    def report(self, percent: int, message: str) -> None:
        """Add a step; ``percent`` is how much of the whole lies before it."""
        self._steps.append(Step(percent, message, self._clock() - self._began_at))
        self._wake()

    def finish(self) -> None:
        """Let every viewing end after the steps there are."""
        self._is_finished = True
        self._wake()

    async def follow(self) -> AsyncIterator[Step]:
        """Yield every step, past and to come, until ``finish``."""
        told = 0
        while True:
            changed = self._changed
            while told < len(self._steps):
                told += 1
                yield self._steps[told - 1]
            if self._is_finished:
                return
            await changed.wait()

    def _wake(self) -> None:
        woken, self._changed = self._changed, asyncio.Event()
        woken.set()
