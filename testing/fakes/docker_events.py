"""The event stream of the fake Docker Engine: lines of JSON as the real one writes and filters them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

Filters = dict[str, list[str]]


class Events:
    """Everyone who listens to one fake Engine; what happened before they came they never hear."""

    def __init__(self) -> None:
        """Have no listener."""
        self._listeners: dict[asyncio.Queue[bytes], Filters] = {}

    @property
    def listeners(self) -> int:
        """How many streams are open."""
        return len(self._listeners)

    def publish(self, action: str, container_id: str, attributes: dict[str, str]) -> None:
        """Send one event about a container to each listener whose filter fits."""
        event = {
            "Type": "container",
            "Action": action,
            "Actor": {"ID": container_id, "Attributes": attributes},
            "scope": "local",
            "time": 1795435200,
        }
        for listener, filters in self._listeners.items():
            if _passes(filters, action, attributes):
                listener.put_nowait(json.dumps(event).encode() + b"\n")

    def write(self, raw: bytes) -> None:
        """Send bytes of the test's own to every listener."""
        for listener in self._listeners:
            listener.put_nowait(raw)

    def cut(self) -> None:
        """End every stream; the listeners may come again."""
        for listener in self._listeners:
            listener.put_nowait(b"")

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Stream to one listener until it is cut off."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        mine: asyncio.Queue[bytes] = asyncio.Queue()
        self._listeners[mine] = json.loads(request.query.get("filters", "{}"))
        try:
            await response.prepare(request)
            while piece := await mine.get():
                await response.write(piece)
        finally:
            del self._listeners[mine]
        return response


def _passes(filters: Filters, action: str, attributes: dict[str, Any]) -> bool:
    labels = [f"{name}={value}" for name, value in attributes.items()]
    return (
        "container" in filters.get("type", ["container"])
        and action in filters.get("event", [action])
        and all(label in labels for label in filters.get("label", []))
    )
