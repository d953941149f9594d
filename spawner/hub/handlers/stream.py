"""GPU stream: serves the live feed as Server-Sent Events.

A stream ends within half a minute after the viewer's session or token; rights are checked when a browser reconnects,
which each one does after some minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import require, viewer_of
from spawner.hub.handlers.api_base import GetWorkbench, WorkbenchApiHandler
from spawner.hub.handlers.feed import Feed, Subscriber
from spawner.hub.handlers.operation import operation
from spawner.hub.sessions import watch_credential

MAX_STREAM_SECONDS = 600.0
CHECK_SECONDS = 20.0
RETRY = b"retry: 2000\n\n"


class GpuStream(WorkbenchApiHandler):
    """``GET /hub/api/workbench/gpus/stream``.

    Its events are ``map``, then ``changes`` every second, and ``own``: the viewer's leases and queue positions.
    """

    # Tornado calls it with the options of the route
    def initialize(  # type: ignore[override]
        self, get_workbench: GetWorkbench, get_feed: Callable[[], Feed]
    ) -> None:
        """Keep the workbench and its feed."""
        super().initialize(get_workbench)
        self._feed = get_feed()
        self._closed = asyncio.Event()

    def get_content_type(self) -> str:
        """Return the media type of Server-Sent Events."""
        return "text/event-stream"

    @operation(
        "streamGpus",
        "Stream the state of the GPUs.",
        description="Server-Sent Events. `map` is a `Map`. `changes`, about one a second, are `Changes`. `own` is "
        "an `Own`. The stream ends after ten minutes; connect again.",
        scope=scopes.READ_GPUS,
        answers="The stream.",
        media=("text/event-stream",),
    )
    async def get(self) -> None:
        """Stream events until the client disconnects or the time limit is reached."""
        require(self, scopes.READ_GPUS, scopes.ADMIN)
        viewer = viewer_of(self, self.workbench)
        await (
            self.workbench.ledger_snapshot()
        )  # a silent ledger is a 503, and no stream that ends at once
        self.set_header("Cache-Control", "no-store")
        self.send(RETRY)
        subscriber = Subscriber(viewer.name, self, sees_names=viewer.sees_names)
        self._feed.subscribe(subscriber)
        try:
            await self._await_end(watch_credential(self))
        finally:
            self._feed.unsubscribe(subscriber)

    async def _await_end(self, is_valid: Callable[[], bool]) -> None:
        """Return when the browser has left, its log-in is over, or the time limit is reached."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + MAX_STREAM_SECONDS
        while (left := ends_at - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), min(CHECK_SECONDS, left))
                return
            if not is_valid():
                return

    def send(self, data: bytes) -> asyncio.Future[Any]:
        """Send ``data``; the future is done once the connection took it or was lost."""
        self.write(data)
        sending: asyncio.Future[Any] = self.flush()
        return sending

    def drop(self) -> None:
        """Close the connection without sending what is pending."""
        self.request.connection.stream.close()

    def on_connection_close(self) -> None:
        """End ``get``."""
        self._closed.set()
