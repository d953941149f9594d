"""GPU stream: serves the live feed as Server-Sent Events.

A stream ends after some minutes, so that a user who has logged out loses it; a browser reconnects by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import require, viewer_of
from spawner.hub.handlers.api_base import GetWorkbench, WorkbenchApiHandler
from spawner.hub.handlers.feed import Feed, Subscriber

MAX_STREAM_SECONDS = 600.0
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
            async with asyncio.timeout(MAX_STREAM_SECONDS):
                await self._closed.wait()
        except TimeoutError:
            pass  # the browser reconnects, with its cookie checked again
        finally:
            self._feed.unsubscribe(subscriber)

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
