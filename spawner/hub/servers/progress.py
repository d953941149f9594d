"""Progress: records the steps of one spawn and streams them to any number of viewers.

A late viewer gets every step from the first on, but only the current position of a wait; every stream ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from spawner.model import QueuePosition


@dataclass(frozen=True)
class Step:
    """One step, which began ``elapsed_seconds`` after the spawn; ``queue_position`` is set for a wait in the queue."""

    percent: int
    message: str
    elapsed_seconds: float
    queue_position: QueuePosition | None = None


class Progress:
    """The growing list of steps of one spawn; belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the spawn's clock."""
        self._clock = clock
        self._began_at = clock()
        self._steps: list[tuple[int, Step]] = []
        self._count = 0
        self._is_finished = False
        self._changed = asyncio.Event()

    def report(self, percent: int, message: str) -> None:
        """Add a step; ``percent`` is the share of the spawn that is complete when it begins."""
        self._add(Step(percent, message, self._elapsed()))

    def report_position(self, message: str, queue_position: QueuePosition) -> None:
        """Add the position in the queue, or replace the previous one, so that a long wait stays small."""
        if self._steps and self._steps[-1][1].queue_position is not None:
            self._steps.pop()
        self._add(Step(0, message, self._elapsed(), queue_position))

    def finish(self) -> None:
        """End every stream after the recorded steps."""
        self._is_finished = True
        self._wake()

    async def follow(self) -> AsyncIterator[Step]:
        """Yield every step, past and future, until ``finish``."""
        last = 0
        while True:
            changed = self._changed
            for number, step in [entry for entry in self._steps if entry[0] > last]:
                last = number
                yield step
            if last < self._count:
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
