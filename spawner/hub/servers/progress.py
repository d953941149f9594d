"""The steps of one spawn, as they happen, for any number of viewers.

A viewer who comes late is told every step from the first on, of a wait only the place now; every viewing ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from spawner.model import QueuePosition


@dataclass(frozen=True)
class Step:
    """One thing that began, ``elapsed_seconds`` after the spawn did; ``place`` is set while it is a wait."""

    percent: int
    message: str
    elapsed_seconds: float
    place: QueuePosition | None = None


class Progress:
    """The growing list of steps of one spawn; belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin now."""
        self._clock = clock
        self._began_at = clock()
        self._steps: list[tuple[int, Step]] = []
        self._count = 0
        self._is_finished = False
        self._changed = asyncio.Event()

    def report(self, percent: int, message: str) -> None:
        """Add a step; ``percent`` is how much of the whole lies before it."""
        self._add(Step(percent, message, self._elapsed()))

    def report_position(self, message: str, place: QueuePosition) -> None:
        """Add the place in line; it takes the stead of the place before, so that a long wait stays small."""
        if self._steps and self._steps[-1][1].place is not None:
            self._steps.pop()
        self._add(Step(0, message, self._elapsed(), place))

    def finish(self) -> None:
        """Let every viewing end after the steps there are."""
        self._is_finished = True
        self._wake()

    async def follow(self) -> AsyncIterator[Step]:
        """Yield every step, past and to come, until ``finish``."""
        told = 0
        while True:
            changed = self._changed
            for number, step in [entry for entry in self._steps if entry[0] > told]:
                told = number
                yield step
            if told < self._count:
                continue
            if self._is_finished:
                return
            await changed.wait()

    def _elapsed(self) -> float:
        return self._clock() - self._began_at

    def _add(self, step: Step) -> None:
        self._count += 1
        self._steps.append((self._count, step))
        self._wake()

    def _wake(self) -> None:
        woken, self._changed = self._changed, asyncio.Event()
        woken.set()
