"""Event relay: streams Docker's events to a client until one of them disconnects.

The broker sets the filter, never the client: a stream has only the ends of this instance's servers.
"""

from __future__ import annotations

import asyncio
import json

from aiohttp import ClientError, StreamReader, web

from spawner.broker.engine import Engine
from spawner.broker.errors import BrokerError
from spawner.policy.container import LABEL_INSTANCE, LABEL_ROLE, ROLE_SERVER

# an empty line at this interval reveals a dead client to the broker, and a dead broker to the client
HEARTBEAT_SECONDS = 10.0


class EventRelay:
    """The open event streams; ``close`` ends them at shutdown."""

    def __init__(self, engine: Engine, instance: str) -> None:
        """Take the dependencies; no stream is open yet."""
        self._engine = engine
        self._filters = {
            "type": ["container"],
            "event": ["die", "oom", "destroy"],
            "label": [f"{LABEL_INSTANCE}={instance}", f"{LABEL_ROLE}={ROLE_SERVER}"],
        }
        self._open: set[asyncio.Task[object]] = set()

    @property
    def streams(self) -> int:
        """The number of open streams."""
        return len(self._open)

    def close(self) -> None:
        """End every stream; a shutdown would wait for them otherwise."""
        for task in self._open:
            task.cancel()

    async def relay(self, request: web.BaseRequest) -> web.StreamResponse:
        """Stream until the client or Docker disconnects; raises BrokerError if Docker sends no stream."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - every request has one
        self._open.add(task)
        try:
            query = {"filters": json.dumps(self._filters)}
            async with self._engine.follow("events", query) as events:
                if events.status != web.HTTPOk.status_code:
                    raise BrokerError(502, "Docker refused to stream its events.")
                response = web.StreamResponse(headers={"Content-Type": "application/json"})
                await response.prepare(request)
                await _copy(events.content, response)
                return response
        finally:
            self._open.discard(task)


async def _copy(events: StreamReader, response: web.StreamResponse) -> None:
    """Copy until either side disconnects, which is no error: the client connects again."""
    piece = b"\n"
    while piece:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS if piece.endswith(b"\n") else None):
                piece = await events.readany()
        except TimeoutError:
            piece = b"\n"
        except ClientError:
            return
        try:
            await response.write(piece)
        except ConnectionError:
            return
