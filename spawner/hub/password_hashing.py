"""Password hashing: runs bcrypt off the event loop, a few hashes at once and one for each address.

A hash takes a core for 0.25 s. An address waits for its own earlier hashes only, in a short queue; the next request
is refused. When many addresses wait, those with fewer failed attempts come first.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

MAX_AT_ONCE = max(1, min(4, os.cpu_count() or 1))
MAX_WAITING_PER_ADDRESS = 12  # a class behind one address logs in within seconds
MAX_WAITING = 16

_T = TypeVar("_T")
# a separate pool: reads of the ledger do not wait when many users log in at once
_threads = ThreadPoolExecutor(MAX_AT_ONCE, "bcrypt")


class TooBusyError(Exception):
    """No hash can be computed for this address now; it may try again after a second."""


@dataclass(eq=False)
class _Turn:
    rank: int
    number: int
    address: str
    is_granted: asyncio.Future[None] = field(default_factory=asyncio.Future)


class PasswordHashing:
    """The queue of hashes; belongs to one event loop."""

    def __init__(self) -> None:
        """Start with an empty queue."""
        self._waiting: list[_Turn] = []
        self._running: list[_Turn] = []
        self._numbers = itertools.count()

    async def run(
        self, address: str, rank: int, compute: Callable[..., _T], *arguments: object
    ) -> _T:
        """Return ``compute(*arguments)``, computed in a thread; a lower ``rank`` comes first. Raises TooBusyError."""
        turn = _Turn(rank, next(self._numbers), address)
        self._enqueue(turn)
        try:
            await turn.is_granted
            computing = asyncio.get_running_loop().run_in_executor(_threads, compute, *arguments)
            return await computing
        finally:
            for turns in (self._waiting, self._running):
                if turn in turns:
                    turns.remove(turn)
            self._grant()

    def _enqueue(self, turn: _Turn) -> None:
        if sum(other.address == turn.address for other in self._waiting) >= MAX_WAITING_PER_ADDRESS:
            raise TooBusyError
        self._waiting.append(turn)
        self._grant()
        if len(self._waiting) > MAX_WAITING:
            last = max(self._waiting, key=_order)
            self._waiting.remove(last)
            last.is_granted.set_exception(TooBusyError())

    def _grant(self) -> None:
        for turn in sorted(self._waiting, key=_order):
            if len(self._running) >= MAX_AT_ONCE:
                return
            if all(other.address != turn.address for other in self._running):
                self._waiting.remove(turn)
                self._running.append(turn)
                turn.is_granted.set_result(None)


def _order(turn: _Turn) -> tuple[int, int]:
    return turn.rank, turn.number
