"""Single flight: shares one asynchronous call between concurrent callers, and its result for a short time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class SingleFlight(Generic[_T]):
    """Call it for a result of ``fetch`` that is at most ``max_age_seconds`` old; an error is not kept."""

    def __init__(
        self, fetch: Callable[[], Coroutine[Any, Any, _T]], max_age_seconds: float
    ) -> None:
        self._fetch = fetch
        self._max_age_seconds = max_age_seconds
        self._task: asyncio.Task[_T] | None = None
        self._started_at = 0.0

    async def __call__(self) -> _T:
        """Return the shared result."""
        task, now = self._task, asyncio.get_running_loop().time()
        if task is None or now - self._started_at > self._max_age_seconds or _has_failed(task):
            task = self._task = asyncio.create_task(self._fetch())
            self._started_at = now
        # a cancelled caller must not cancel the call of the others
        return await asyncio.shield(task)


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
