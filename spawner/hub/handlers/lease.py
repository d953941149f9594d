"""REST API of the lease of one of one's own servers.

``/server/…`` is the default server and ``/servers/<name>/…`` a named one, as in JupyterHub's own API.
"""

from __future__ import annotations

import json
from http import HTTPStatus

from jupyterhub.user import User
from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import require
from spawner.hub.handlers.api_base import GetWorkbench, Route, WorkbenchApiHandler
from spawner.hub.handlers.operation import operation
from spawner.hub.identity import quota_subject
from spawner.hub.refusal import to_http_error
from spawner.hub.schema.leases import LeaseExtensionBody, LeaseJson
from spawner.hub.views.lease import build_lease_view
from spawner.model import Refused


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

    @operation(
        "readLease",
        "Read the lease of one of one's own servers.",
        scope=scopes.READ_LEASES,
        answers="The lease.",
        answer=LeaseJson,
    )
    async def get(self, server_name: str = "") -> None:
        """Answer the server's GPUs, the end of its lease, and how its last lease ended."""
        user = self.require_own(scopes.READ_LEASES, server_name)
        await self.answer(user, server_name)

    @operation(
        "extendLease",
        "Extend the lease of one of one's own servers.",
        scope=scopes.LEASES,
        body=LeaseExtensionBody,
        answers="The extended lease.",
        answer=LeaseJson,
        refusals=(HTTPStatus.CONFLICT,),
    )
    async def post(self, server_name: str = "") -> None:
        """Extend the lease by ``{"hours": …}`` and answer the extended lease."""
        user = self.require_own(scopes.LEASES, server_name)
        hours = self.read_as(LeaseExtensionBody).hours
        answer = await self.workbench.controller.extend(quota_subject(user), server_name, hours)
        if isinstance(answer, Refused):
            raise to_http_error(answer)
        await self.answer(user, server_name)


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
