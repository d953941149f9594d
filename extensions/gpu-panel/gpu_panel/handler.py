"""The stream's WebSocket: who may open it, and what a slow reader gets.

At most one message is on its way to a client; what comes while it is, that client misses.
"""

from __future__ import annotations

import asyncio
from typing import Any

from jupyter_server.auth.decorator import authorized, ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from gpu_panel.sampler import Sampler


class StreamHandler(WebSocketMixin, WebSocketHandler, JupyterHandler):
    """``<base_url>/gpu-panel/stream``: the server speaks once a second, the client never."""

    auth_resource = "gpu-panel"

    def initialize(self, sampler: Sampler) -> None:
        """Take the sampler that all sockets share."""
        super().initialize()
        self._sampler = sampler
        self._sending: asyncio.Task[None] | None = None

    def set_default_headers(self) -> None:
        """Send none: the headers of pages make no sense on a socket."""

    @ws_authenticated
    @authorized
    async def get(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Upgrade to a WebSocket; 403 without a token or from another origin."""
        await super().get(*args, **kwargs)

    def open(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Join the sampler and start the keep-alive pings."""
        super().open(*args, **kwargs)
        self._sampler.join(self)

    def on_message(self, message: str | bytes) -> None:
        """Close: this stream takes no orders."""
        self.close(1003, "This stream takes no messages.")

    def on_close(self) -> None:
        """Leave the sampler."""
        self._sampler.leave(self)

    def deliver(self, message: bytes) -> None:
        """Send ``message``, or drop it while an earlier one has not left."""
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send(message))

    async def _send(self, message: bytes) -> None:
        try:
            await self.write_message(message)
        except WebSocketClosedError:
            self._sampler.leave(self)
