"""Launch slots: bounds the containers that start at once, and how many of them are of one user.

A user's further launches wait for their own slot before they wait for a common one. So the launches of one user delay
another user's by that bound at most, however many there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

MAX_LAUNCHES = 16
MAX_LAUNCHES_OF_USER = 2


class LaunchSlots:
    """The slots of one hub."""

    def __init__(self, total: int = MAX_LAUNCHES, of_user: int = MAX_LAUNCHES_OF_USER) -> None:
        """Start with all slots free."""
        self._all = asyncio.Semaphore(total)
        self._of_user = of_user
        self._own: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def take(self, user: str) -> AsyncIterator[None]:
        """Hold a slot during the block, after those of the same user and of all that came before."""
        own = self._own.setdefault(user, asyncio.Semaphore(self._of_user))
        async with own, self._all:
            yield
