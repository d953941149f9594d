"""Lease handlers: pass an extension or a keep-alive of the front end on to the hub.

The hub decides, and its sentence reaches the front end unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import asdict

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado.web import authenticated

from gpu_panel.hub import HubError
from gpu_panel.lease import LeaseWatch
from gpu_panel.message import Lease


class LeaseApiHandler(APIHandler):
    """A route that answers with the lease as JSON."""

    auth_resource = "gpu-panel"

    def initialize(self, lease: LeaseWatch) -> None:
        """Keep the lease watch of this server."""
        super().initialize()
        self._lease = lease

    async def answer(self, request: Awaitable[Lease]) -> None:
        """Answer with the lease that ``request`` returns, or with the hub's refusal."""
        try:
            lease = await request
        except HubError as error:
            self.set_status(error.status)
            self.finish(json.dumps({"message": error.message}))
            return
        self.finish(json.dumps(asdict(lease)))


class LeaseHandler(LeaseApiHandler):
    """``POST <base_url>/gpu-panel/lease`` with ``{"hours": …}``: answers with the lease or ``{"message": …}``."""

    @authenticated
    @authorized
    async def post(self) -> None:
        """Extend the lease; the hub checks the hours."""
        body = self.get_json_body()
        hours = body.get("hours") if isinstance(body, dict) else None
        await self.answer(self._lease.extend(hours))


class KeepAliveHandler(LeaseApiHandler):
    """``POST <base_url>/gpu-panel/keep-alive``: answers as ``LeaseHandler``."""

    @authenticated
    @authorized
    async def post(self) -> None:
        """Reset the idle countdown of the GPUs."""
        await self.answer(self._lease.keep_alive())
