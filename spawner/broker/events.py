"""Relays Docker's events to a client for as long as both are there.

Docker filters them by what the broker says, never by what the client asks; only this instance's servers are told of.
"""

from __future__ import annotations

import asyncio
import json

from aiohttp import ClientError, StreamReader, web

from spawner.broker.engine import Engine
from spawner.broker.errors import BrokerError
from spawner.policy.container import LABEL_INSTANCE, LABEL_ROLE, ROLE_SERVER

# an empty line: how the broker learns that a client is gone, and the client that the broker is there
HEARTBEAT_SECONDS = 10.0


class EventRelay:
    """Every stream that is open; they are hung up when the broker ends."""

    def __init__(self, engine: Engine, instance: str) -> None:
        """Open nothing yet."""
        self._engine = engine
        self._filters = {
            "type": ["container"],
            "event": ["die", "oom", "destroy"],
            "label": [f"{LABEL_INSTANCE}={instance}", f"{LABEL_ROLE}={ROLE_SERVER}"],
        }
        self._open: set[asyncio.Task[object]] = set()

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._open)

    def close(self) -> None:
        """End every stream; nothing else would."""
        for task in self._open:
            task.cancel()

    async def relay(self, request: web.BaseRequest) -> web.StreamResponse:
        """Stream until client or Docker hangs up; raises BrokerError when Docker does not begin."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - every request has one
        self._open.add(task)
        try:
            query = {"filters": json.dumps(self._filters)}
            async with self._engine.follow("events", query) as events:
                if events.status != web.HTTPOk.status_code:
                    raise BrokerError(502, "Docker does not tell its events.")
                response = web.StreamResponse(headers={"Content-Type": "application/json"})
                await response.prepare(request)
                await _copy(events.content, response)
                return response
        finally:
            self._open.discard(task)


async def _copy(events: StreamReader, response: web.StreamResponse) -> None:
    """Return when either side is gone, which is no error: the client will ask again."""
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
