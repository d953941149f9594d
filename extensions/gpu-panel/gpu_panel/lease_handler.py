"""The REST route by which the front end extends the lease of this server.

The hub decides; its sentence is passed on as it is.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado.web import authenticated

from gpu_panel.hub import HubError
from gpu_panel.lease import LeaseWatch


class LeaseHandler(APIHandler):
    """``POST <base_url>/gpu-panel/lease`` with ``{"hours": …}``: the lease as it is then, or ``{"message": …}``."""

    auth_resource = "gpu-panel"

    def initialize(self, lease: LeaseWatch) -> None:
        """Take the one watch of this server."""
        super().initialize()
        self._lease = lease

    @authenticated
    @authorized
    async def post(self) -> None:
        """Extend the lease; the hub checks the hours."""
        body = self.get_json_body()
        hours = body.get("hours") if isinstance(body, dict) else None
        try:
            lease = await self._lease.extend(hours)
        except HubError as error:
            self.set_status(error.status)
            self.finish(json.dumps({"message": error.message}))
            return
        self.finish(json.dumps(asdict(lease)))
