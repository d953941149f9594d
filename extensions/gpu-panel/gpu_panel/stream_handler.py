"""Stream handler: authorizes a WebSocket and sends it the sampler's messages.

At most one message is in flight per client; a slow client misses the messages in between.
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
    """``<base_url>/gpu-panel/stream``: one message per second from server to client, none back."""

    auth_resource = "gpu-panel"

    def initialize(self, sampler: Sampler) -> None:
        """Keep the sampler that all sockets share."""
        super().initialize()
        self._sampler = sampler
        self._sending: asyncio.Task[None] | None = None

    def set_default_headers(self) -> None:
        """Set none: the headers of pages have no meaning on a socket."""

    @ws_authenticated
    @authorized
    async def get(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Upgrade to a WebSocket; 403 without a token or from another origin."""
        await super().get(*args, **kwargs)

    def open(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Subscribe to the sampler and start the WebSocket pings."""
        super().open(*args, **kwargs)
        self._sampler.join(self)

    def on_message(self, message: str | bytes) -> None:
        """Close the socket: the client has nothing to send."""
        self.close(1003, "This stream takes no messages.")

    def on_close(self) -> None:
        """Unsubscribe from the sampler."""
        self._sampler.leave(self)

    def deliver(self, message: bytes) -> None:
        """Send ``message``, or drop it while an earlier one is in flight."""
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send(message))

    async def _send(self, message: bytes) -> None:
        try:
            await self.write_message(message)
        except WebSocketClosedError:
            self._sampler.leave(self)
