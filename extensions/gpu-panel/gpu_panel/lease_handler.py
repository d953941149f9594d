"""The REST routes by which the front end extends the lease of this server, or says that somebody is there.

The hub decides; its sentence is passed on as it is.
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


class _AnswersLease(APIHandler):
    auth_resource = "gpu-panel"

    def initialize(self, lease: LeaseWatch) -> None:
        """Take the one watch of this server."""
        super().initialize()
        self._lease = lease

    async def answer(self, asking: Awaitable[Lease]) -> None:
        try:
            lease = await asking
        except HubError as error:
            self.set_status(error.status)
            self.finish(json.dumps({"message": error.message}))
            return
        self.finish(json.dumps(asdict(lease)))


class LeaseHandler(_AnswersLease):
    """``POST <base_url>/gpu-panel/lease`` with ``{"hours": …}``: the lease as it is then, or ``{"message": …}``."""

    @authenticated
    @authorized
    async def post(self) -> None:
        """Extend the lease; the hub checks the hours."""
        body = self.get_json_body()
        hours = body.get("hours") if isinstance(body, dict) else None
        await self.answer(self._lease.extend(hours))


class HereHandler(_AnswersLease):
    """``POST <base_url>/gpu-panel/here``: "I'm still here"; answers as ``LeaseHandler``."""

    @authenticated
    @authorized
    async def post(self) -> None:
        """Let the time in which nothing used the GPUs begin anew."""
        await self.answer(self._lease.stay())
