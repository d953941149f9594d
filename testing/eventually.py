"""Eventually: polls a condition until it holds, or fails with the sentence that names it.

A probe that raises ``OSError`` or ``httpx.TransportError`` does not hold yet: the server it asks may still be starting.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar, overload

import httpx

_T = TypeVar("_T")
UNREACHABLE = (OSError, httpx.TransportError)
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.005, 0.1


def eventually_sync(
    probe: Callable[[], _T | None], what: str | None = None, *, seconds: float = 60.0
) -> _T:
    """Return the first true answer of ``probe``.

    The failure names the condition by ``what``, or by the probe's own source line.
    """
    last: object = None
    for pause in _pauses(seconds):
        try:
            if answer := probe():
                return answer
            last = answer
        except UNREACHABLE as error:
            last = error
        time.sleep(pause)
    raise AssertionError(_describe(probe, what, seconds, last))


@overload
async def eventually(
    probe: Callable[[], Awaitable[_T | None]], what: str | None = ..., *, seconds: float = ...
) -> _T: ...
@overload
async def eventually(
    probe: Callable[[], _T | None], what: str | None = ..., *, seconds: float = ...
) -> _T: ...
async def eventually(
    probe: Callable[[], object], what: str | None = None, *, seconds: float = 60.0
) -> object:
    """Return the first true answer of ``probe``, a plain or a coroutine function; else as ``eventually_sync``."""
    last: object = None
    for pause in _pauses(seconds):
        try:
            last = probe()
            if inspect.isawaitable(last):
                last = await last
            if last:
                return last
        except UNREACHABLE as error:
            last = error
        await asyncio.sleep(pause)
    raise AssertionError(_describe(probe, what, seconds, last))


def _pauses(seconds: float) -> Iterator[float]:
    """Yield growing pauses until the time is over; the last probe comes after the deadline."""
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE_SECONDS
    while time.monotonic() < deadline:
        yield pause
        pause = min(1.2 * pause, LONGEST_PAUSE_SECONDS)
    yield 0.0


def _describe(probe: Callable[[], object], what: str | None, seconds: float, last: object) -> str:
    return f"not within {seconds:g} s: {what or _source(probe)} (last answer: {last!r})"


def _source(probe: Callable[[], object]) -> str:
    """Return the line that defines ``probe``, or its name where there is no source."""
    try:
        return inspect.getsource(probe).strip()
    except (OSError, TypeError):
        return repr(probe)
