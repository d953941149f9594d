"""Runs what waits for a disk on a thread of its own.

One thread: calls run in the order in which they were made.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class SerialExecutor:
    """Call it with a function and its arguments; await the answer."""

    def __init__(self, name: str) -> None:
        """Start the thread at the first call; ``name`` shows in thread lists."""
        self._thread = ThreadPoolExecutor(1, name)

    def __call__(
        self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> asyncio.Future[_T]:
        """Return the future answer of ``call(*args, **kwargs)``."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._thread, functools.partial(call, *args, **kwargs))
