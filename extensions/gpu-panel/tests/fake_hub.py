"""Fake hub: answers as the workbench's hub for one lease, or not at all.

Its default answer is the golden sample of ``tests/contract/panel-lease.json``.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

GOLDEN = Path(__file__).parents[3] / "tests" / "contract" / "panel-lease.json"


@dataclass(frozen=True)
class RecordedRequest:
    """One request that reached the hub."""

    method: str
    path: str
    token: str | None
    body: str


class FakeHub:
    """One lease behind ``/hub/api/workbench/servers/<server>/``: ``lease``, ``keep-alive`` and ``activity``.

    ``refusal`` is a status and a body to answer instead; while ``is_silent`` nothing is answered.
    """

    def __init__(self) -> None:
        self.lease: dict[str, Any] = json.loads(GOLDEN.read_text())
        self.refusal: tuple[int, str] | None = None
        self.requests: list[RecordedRequest] = []
        self.is_silent = False
        application = Application(
            [
                (
                    r"/hub/api/workbench/server(?:s/[^/]+)?/(?:lease|keep-alive|activity)",
                    _Lease,
                    {"hub": self},
                )
            ]
        )
        self._server = HTTPServer(application)
        self._sockets = bind_sockets(0, "127.0.0.1")
        self.port = self._sockets[0].getsockname()[1]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a named server."""
        return {
            "JUPYTERHUB_API_URL": f"http://127.0.0.1:{self.port}/hub/api",
            "JUPYTERHUB_API_TOKEN": "secret",
            "JUPYTERHUB_SERVER_NAME": "büro/2",
        }

    async def open(self) -> FakeHub:
        """Accept connections."""
        self._server.add_sockets(self._sockets)
        return self

    async def close(self) -> None:
        """Stop; the port then refuses connections."""
        self.is_silent = False
        self._server.stop()
        await self._server.close_all_connections()


class _Lease(RequestHandler):
    def initialize(self, hub: FakeHub) -> None:
        self._hub = hub

    async def get(self) -> None:
        await self._answer()

    async def post(self) -> None:
        hours = json.loads(self.request.body).get("hours", 0)
        if self.request.path.endswith("/keep-alive"):
            self._hub.lease["idle_seconds_left"] = None
        if self._hub.refusal is None and not self._hub.is_silent:
            self._hub.lease["seconds_left"] += hours * 3600
        await self._answer()

    async def _answer(self) -> None:
        hub, request = self._hub, self.request
        token = request.headers.get("Authorization")
        hub.requests.append(
            RecordedRequest(str(request.method), request.path, token, request.body.decode())
        )
        while hub.is_silent:
            await asyncio.sleep(0.01)
        status, body = hub.refusal or (200, json.dumps(hub.lease))
        self.set_status(status)
        self.finish(body)
