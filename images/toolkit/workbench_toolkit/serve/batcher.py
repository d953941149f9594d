"""Batcher: puts all waiting requests into the next batch when the model becomes free.

A batch never waits for more requests, and each request gets its own rows. A failed batch is retried request by request.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from workbench_toolkit.export.inputs import Array
from workbench_toolkit.serve.worker import ModelFailedError

Predict = Callable[[Sequence[Array]], Awaitable[list[Array]]]
"""Runs a batch; raises ModelFailedError and WorkerDiedError."""


class QueueFullError(Exception):
    """The queue has no room for the rows of a request."""


@dataclasses.dataclass(frozen=True)
class _Waiting:
    arrays: Sequence[Array]
    answer: asyncio.Future[list[Array]]

    @property
    def rows(self) -> int:
        return len(self.arrays[0])


class Batcher:
    """A queue of at most ``max_waiting`` rows, with batches of up to ``max_rows`` rows.

    A request is never split: one with more than ``max_rows`` rows is a batch of its own.
    """

    def __init__(
        self, predict: Predict, max_rows: int, max_waiting: int, observe: Callable[[int], None]
    ) -> None:
        self._predict = predict
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._observe = observe
        self._queue: deque[_Waiting] = deque()
        self._filled = asyncio.Event()

    @property
    def waiting_rows(self) -> int:
        """The number of waiting rows, including those of abandoned requests still in the queue."""
        return sum(waiting.rows for waiting in self._queue)

    async def submit(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the outputs for ``arrays``; raises QueueFullError and the errors of ``predict``."""
        waiting = _Waiting(arrays, asyncio.get_running_loop().create_future())
        if self.waiting_rows + waiting.rows > self._max_waiting:
            raise QueueFullError
        self._queue.append(waiting)
        self._filled.set()
        return await waiting.answer

    async def run(self) -> None:
        """Answer submitted requests until this task is cancelled."""
        while True:
            await self._filled.wait()
            if batch := self._next_batch():
                await self._answer(batch)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        room = self._max_rows
        while self._queue and (not batch or self._queue[0].rows <= room):
            waiting = self._queue.popleft()
            if not waiting.answer.done():  # done means that its client disconnected
                batch.append(waiting)
                room -= waiting.rows
        if not self._queue:
            self._filled.clear()
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        arrays = [
            np.concatenate(parts)
            for parts in zip(*(waiting.arrays for waiting in batch), strict=True)
        ]
        self._observe(len(arrays[0]))
        try:
            outputs = await self._predict(arrays)
        except ModelFailedError as error:
            if len(batch) > 1:
                for waiting in batch:
                    await self._answer([waiting])
            else:
                _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - the queue continues after any error
            _fail(batch, error)
        else:
            start = 0
            for waiting in batch:
                end = start + waiting.rows
                if not waiting.answer.done():
                    waiting.answer.set_result([output[start:end] for output in outputs])
                start = end


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
