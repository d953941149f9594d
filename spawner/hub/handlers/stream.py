"""The stream of the GPU page: Server-Sent Events, written by the feed.

A stream ends after a while, so that whoever was logged out meanwhile sees no more; a browser comes again by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import require, viewer_of
from spawner.hub.handlers.doors import ApiHandler
from spawner.hub.handlers.feed import Feed, Subscriber
from spawner.hub.workbench import Workbench

MAX_STREAM_SECONDS = 600.0
RETRY = b"retry: 2000\n\n"


class GpuStream(ApiHandler):
    """``GET /hub/api/workbench/gpus/stream``: ``map``, then ``changes`` each second, and ``own``, what is yours in it.

    ``tests/contract/gpu-map.json`` has one of each.
    """

    def initialize(
        self, get_workbench: Callable[[], Workbench], get_feed: Callable[[], Feed]
    ) -> None:
        """Take the parts from the configuration."""
        self._workbench = get_workbench()
        self._feed = get_feed()
        self._over = asyncio.Event()

    def get_content_type(self) -> str:
        """Return what the browser takes for a stream."""
        return "text/event-stream"

    async def get(self) -> None:
        """Be told until one of both goes away."""
        require(self, scopes.READ_GPUS, scopes.ADMIN)
        seen_as = viewer_of(self, self._workbench)
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Accel-Buffering", "no")
        self.send(RETRY)
        viewer = Subscriber(seen_as.name, self, sees_names=seen_as.sees_names)
        self._feed.join(viewer)
        try:
            async with asyncio.timeout(MAX_STREAM_SECONDS):
                await self._over.wait()
        except TimeoutError:
            pass  # a browser comes again
        finally:
            self._feed.leave(viewer)

    def send(self, data: bytes) -> asyncio.Future[Any]:
        """Send ``data``; done once the connection took all of it, or was lost."""
        self.write(data)
        sending: asyncio.Future[Any] = self.flush()
        return sending

    def drop(self) -> None:
        """Close the connection, whatever it still had to send."""
        self.request.connection.stream.close()

    def on_connection_close(self) -> None:
        """Let ``get`` end."""
        self._over.set()
