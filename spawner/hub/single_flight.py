"""One question that many ask at once, asked for all of them together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class SingleFlight(Generic[_T]):
    """Call it for an answer that is at most ``seconds`` old; what ``ask`` raises is asked anew by the next."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, _T]], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._asking: asyncio.Task[_T] | None = None
        self._asked_at = 0.0

    async def __call__(self) -> _T:
        """Return the answer."""
        asking, now = self._asking, asyncio.get_running_loop().time()
        if asking is None or now - self._asked_at > self._seconds or _has_failed(asking):
            asking = self._asking = asyncio.create_task(self._ask())
            self._asked_at = now
        # who goes away lets the others have their answer
        return await asyncio.shield(asking)


def _has_failed(asking: asyncio.Task[Any]) -> bool:
    return asking.done() and (asking.cancelled() or asking.exception() is not None)
