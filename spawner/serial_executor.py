"""Serial executor: runs blocking calls on one thread, outside the event loop.

With one thread, the calls run in the order of their submission.
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
    """Executor with one thread; call it with a function and its arguments, and await the result."""

    def __init__(self, name: str) -> None:
        """Set the thread's ``name`` for thread lists; the first call starts the thread."""
        self._thread = ThreadPoolExecutor(1, name)

    def __call__(
        self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> asyncio.Future[_T]:
        """Return the future result of ``call(*args, **kwargs)``."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._thread, functools.partial(call, *args, **kwargs))
