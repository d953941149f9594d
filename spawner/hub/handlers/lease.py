"""REST API of the lease of one of one's own servers.

``/server/…`` is the default server and ``/servers/<name>/…`` a named one, as in JupyterHub's own API.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from jupyterhub.user import User
from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import require
from spawner.hub.handlers.api_base import GetWorkbench, Route, WorkbenchApiHandler, bad_request
from spawner.hub.identity import quota_subject
from spawner.hub.refusal import to_http_error
from spawner.hub.views.lease import build_lease_view
from spawner.model import Refused

MAX_HOURS = 8760


class OwnServerHandler(WorkbenchApiHandler):
    """Base of the handlers of one of one's own servers."""

    def require_own(self, scope: str, server_name: str) -> User:
        """Return the user of the request; raises a 403 without ``scope`` for this server of theirs."""
        user = self.current_user
        if not isinstance(user, User):
            raise web.HTTPError(
                HTTPStatus.FORBIDDEN, "Only a user has leases: log in, or send a token."
            )
        require(self, f"{scope}!server={user.name}/{server_name}")
        return user

    async def answer(self, user: User, server_name: str) -> None:
        """Answer the lease as it is now."""
        lease = await build_lease_view(self.workbench, user, server_name)
        self.finish(json.dumps(lease.as_json()))


class LeaseHandler(OwnServerHandler):
    """``GET`` and ``POST /hub/api/workbench/servers/<server>/lease``."""

    async def get(self, server_name: str = "") -> None:
        """Answer the server's GPUs, the end of its lease, and how its last lease ended."""
        user = self.require_own(scopes.READ_LEASES, server_name)
        await self.answer(user, server_name)

    async def post(self, server_name: str = "") -> None:
        """Extend the lease by ``{"hours": …}`` and answer the extended lease."""
        user = self.require_own(scopes.LEASES, server_name)
        hours = self._read_hours()
        answer = await self.workbench.controller.extend(quota_subject(user), server_name, hours)
        if isinstance(answer, Refused):
            raise to_http_error(answer)
        await self.answer(user, server_name)

    def _read_hours(self) -> float:
        body: Any = self.get_json_body()
        hours: Any = body.get("hours") if isinstance(body, dict) and len(body) == 1 else None
        # bool is an int in Python; NaN and the infinities compare as outside
        if type(hours) not in (int, float) or not 0 < hours <= MAX_HOURS:
            raise bad_request(
                f'Give the hours to add, more than 0 and at most {MAX_HOURS}: {{"hours": 4}}.'
            )
        return float(hours)


def server_routes(get_workbench: GetWorkbench, **handlers: type) -> list[Route]:
    """Return the two routes of each handler: of the default server, and of a named one."""
    options = {"get_workbench": get_workbench}
    return [
        (f"/api/workbench/{server}/{name.replace('_', '-')}", handler, options)
        for name, handler in handlers.items()
        for server in ("server", "servers/([^/]+)")
    ]


def lease_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes, below the hub's prefix."""
    return server_routes(get_workbench, lease=LeaseHandler)
