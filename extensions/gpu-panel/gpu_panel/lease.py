"""What this server knows of its lease, and the one conversation with the hub about it.

The hub says how many seconds are left; from then on this machine's monotonic clock counts them, never a wall clock,
and a hub that does not answer leaves the last known countdown going, marked as not confirmed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus

from gpu_panel.hub import Hub, HubError
from gpu_panel.message import Activity, Lease

PERIOD_SECONDS = 30.0
OVERTIME_SECONDS = 2.0
"""How often a lease is asked for whose time is over: it has been extended elsewhere, or this server goes."""

FIRST_ANSWER_SECONDS = 1.0
"""For how long whoever begins to watch waits for the first answer."""


class LeaseWatch:
    """The lease of this server; outside a hub there is none, and nobody is asked."""

    def __init__(
        self,
        hub: Hub | None,
        log: logging.Logger,
        period_seconds: float = PERIOD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._log = log
        self._period_seconds = period_seconds
        self._clock = clock
        self._talk = asyncio.Lock()  # an older answer never overtakes a newer one
        self._known: Lease | None = None
        self._known_at = 0.0
        self._has_failed = False

    def view(self) -> Lease | None:
        """Return the lease as it is now, None where the hub has not said anything yet."""
        known = self._known
        if known is None:
            return None
        passed = self._clock() - self._known_at
        return replace(
            known,
            seconds_left=_count_down(known.seconds_left, passed),
            idle_seconds_left=_count_down(known.idle_seconds_left, passed),
        )

    @property
    def has_hub(self) -> bool:
        """False outside a hub."""
        return self._hub is not None

    async def extend(self, hours: object) -> Lease:
        """Ask the hub for ``hours`` more and return the lease as it is then; raises HubError."""
        return await self._converse(lambda hub: hub.extend(hours))

    async def stay(self) -> Lease:
        """Tell the hub that the user is still here, and return the lease as it is then; raises HubError."""
        return await self._converse(lambda hub: hub.stay())

    async def report(self, activity: Activity) -> Lease:
        """Tell the hub what this server does, and return the lease as it is then; raises HubError."""
        return await self._converse(lambda hub: hub.report(activity))

    async def _converse(self, ask: Callable[[Hub], Awaitable[Lease]]) -> Lease:
        if self._hub is None:
            raise HubError(HTTPStatus.NOT_FOUND, "No hub started this server: it has no lease.")
        async with self._talk:
            asked_at = self._clock()
            lease = await ask(self._hub)
            self._know(lease, asked_at)
            return lease

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Keep asking the hub meanwhile; the block begins once it has answered, or soon."""
        if self._hub is None:
            yield
            return
        self._doubt()  # it is from the last time that anybody looked
        was_asked = asyncio.Event()
        task = asyncio.create_task(self._keep_asking(self._hub, was_asked))
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(was_asked.wait(), FIRST_ANSWER_SECONDS)
            yield
        finally:
            task.cancel()

    async def _keep_asking(self, hub: Hub, was_asked: asyncio.Event) -> None:
        while True:
            async with self._talk:
                await self._ask(hub)
            was_asked.set()
            await asyncio.sleep(self._pause_seconds())

    async def _ask(self, hub: Hub) -> None:
        asked_at = self._clock()
        try:
            self._know(await hub.read(), asked_at)
        except HubError as error:
            if not self._has_failed:  # one line, however long it lasts
                self._log.warning("GPU panel: the lease is not confirmed: %s", error)
            self._has_failed = True
            self._doubt()

    def _know(self, lease: Lease, asked_at: float) -> None:
        # counted from the question: what the answer took is never added to the lease
        self._known, self._known_at = lease, asked_at
        self._has_failed = False

    def _doubt(self) -> None:
        if self._known is not None:
            self._known = replace(self._known, confirmed=False)

    def _pause_seconds(self) -> float:
        """Return until when nothing can have changed that matters: the next period, or the end before it."""
        lease = self.view()
        if lease is None or lease.seconds_left is None or not lease.confirmed:
            return self._period_seconds
        return min(self._period_seconds, max(lease.seconds_left, OVERTIME_SECONDS))


def _count_down(left: float | None, passed: float) -> float | None:
    return None if left is None else round(left - passed, 1)
