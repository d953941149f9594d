"""Lease watch: polls the hub for this server's lease and counts it down between answers.

The countdown uses the monotonic clock, never a wall clock.
While the hub does not answer, the last countdown continues and is marked as not confirmed.
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
EXPIRED_PERIOD_SECONDS = 2.0
"""The poll period of an expired lease: it was extended elsewhere, or this server is about to stop."""

FIRST_ANSWER_SECONDS = 1.0
"""How long ``watching`` waits for the first answer before its block begins."""


class LeaseWatch:
    """The lease of this server; without a hub there is no lease and no request."""

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
        self._request_lock = asyncio.Lock()  # answers arrive in the order of their requests
        self._stored: Lease | None = None
        self._stored_at = 0.0
        self._is_failing = False

    def view(self) -> Lease | None:
        """Return the lease, counted down to now; None before the hub's first answer."""
        stored = self._stored
        if stored is None:
            return None
        passed = self._clock() - self._stored_at
        return replace(
            stored,
            seconds_left=_count_down(stored.seconds_left, passed),
            idle_seconds_left=_count_down(stored.idle_seconds_left, passed),
        )

    @property
    def has_hub(self) -> bool:
        """Whether a hub started this server."""
        return self._hub is not None

    async def extend(self, hours: object) -> Lease:
        """Extend the lease by ``hours`` and return it; raises HubError."""
        return await self._request(lambda hub: hub.extend(hours))

    async def keep_alive(self) -> Lease:
        """Reset the hub's idle countdown and return the lease; raises HubError."""
        return await self._request(lambda hub: hub.keep_alive())

    async def report(self, activity: Activity) -> Lease:
        """Send an activity report and return the lease; raises HubError."""
        return await self._request(lambda hub: hub.report(activity))

    async def _request(self, send: Callable[[Hub], Awaitable[Lease]]) -> Lease:
        if self._hub is None:
            raise HubError(HTTPStatus.NOT_FOUND, "No hub started this server: it has no lease.")
        async with self._request_lock:
            requested_at = self._clock()
            lease = await send(self._hub)
            self._store(lease, requested_at)
            return lease

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Poll the hub during the block, which begins after the first answer or ``FIRST_ANSWER_SECONDS``."""
        if self._hub is None:
            yield
            return
        self._mark_unconfirmed()  # it is as old as the last client
        was_polled = asyncio.Event()
        task = asyncio.create_task(self._poll(self._hub, was_polled))
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(was_polled.wait(), FIRST_ANSWER_SECONDS)
            yield
        finally:
            task.cancel()

    async def _poll(self, hub: Hub, was_polled: asyncio.Event) -> None:
        while True:
            async with self._request_lock:
                await self._refresh(hub)
            was_polled.set()
            await asyncio.sleep(self._pause_seconds())

    async def _refresh(self, hub: Hub) -> None:
        requested_at = self._clock()
        try:
            self._store(await hub.read(), requested_at)
        except HubError as error:
            if not self._is_failing:  # one line per outage
                self._log.warning("lease not confirmed: reason=%s", error)
            self._is_failing = True
            self._mark_unconfirmed()

    def _store(self, lease: Lease, requested_at: float) -> None:
        # counted from the request, so that the time of the answer is never added to the lease
        self._stored, self._stored_at = lease, requested_at
        self._is_failing = False

    def _mark_unconfirmed(self) -> None:
        if self._stored is not None:
            self._stored = replace(self._stored, confirmed=False)

    def _pause_seconds(self) -> float:
        """Return the time until the next poll: one period, or the end of the lease if that is sooner."""
        lease = self.view()
        if lease is None or lease.seconds_left is None or not lease.confirmed:
            return self._period_seconds
        return min(self._period_seconds, max(lease.seconds_left, EXPIRED_PERIOD_SECONDS))


def _count_down(left: float | None, passed: float) -> float | None:
    return None if left is None else round(left - passed, 1)
