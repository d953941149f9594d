"""The workbench's own page and REST API inside the hub: the line, and the lease of one's server.

Every handler checks a scope of ``spawner.hub.scopes``; a refusal is one sentence.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.user import User
from tornado import web

from spawner.hub import scopes
from spawner.hub.doors import Door
from spawner.hub.identity import call_actor, own
from spawner.hub.lease_view import see_lease
from spawner.hub.line_view import Viewer, see_line
from spawner.hub.refusal import refuse
from spawner.hub.workbench import Workbench
from spawner.model import Refused

MOST_HOURS = 8760


class LinePage(BaseHandler):  # type: ignore[misc]
    """Shows who holds GPUs and who waits."""

    def initialize(self, get_workbench: Callable[[], Workbench]) -> None:
        """Take the parts from the configuration."""
        self._workbench = get_workbench()

    @web.authenticated
    async def get(self) -> None:
        """Render the page; it takes itself anew every few seconds."""
        require(self, scopes.READ_LINE)
        line = await see_line(self._workbench, viewer_of(self, self._workbench))
        self.finish(await self.render_template("line.html", line=line))


class LineAPI(Door):
    """``GET /hub/api/workbench/line``."""

    def initialize(self, get_workbench: Callable[[], Workbench]) -> None:
        """Take the parts from the configuration."""
        self._workbench = get_workbench()

    async def get(self) -> None:
        """Answer the whole line."""
        require(self, scopes.READ_LINE)
        line = await see_line(self._workbench, viewer_of(self, self._workbench))
        self.finish(json.dumps(line.as_json()))


class OwnLease(Door):
    """What is about the lease of one of one's own servers."""

    def initialize(self, get_workbench: Callable[[], Workbench]) -> None:
        """Take the parts from the configuration."""
        self.workbench = get_workbench()

    def require_own(self, scope: str, server_name: str) -> User:
        """Return the user who asks, if they may do that with this server of theirs."""
        user = self.current_user
        if not isinstance(user, User):
            raise web.HTTPError(
                HTTPStatus.FORBIDDEN, "Only a user has leases: log in, or send a token."
            )
        require(self, f"{scope}!server={user.name}/{server_name}")
        return user

    async def answer(self, user: User, server_name: str) -> None:
        """Answer the lease as it is now."""
        lease = await see_lease(self.workbench, user, server_name)
        self.finish(json.dumps(lease.as_json()))


class LeaseAPI(OwnLease):
    """``GET`` and ``POST /hub/api/workbench/lease/<server>``: the lease of one of one's own servers."""

    async def get(self, server_name: str) -> None:
        """Answer what the server holds, until when, and how its last lease ended."""
        user = self.require_own(scopes.READ_LEASES, server_name)
        await self.answer(user, server_name)

    async def post(self, server_name: str) -> None:
        """Extend the lease by ``{"hours": …}`` and answer it as it is then."""
        user = self.require_own(scopes.LEASES, server_name)
        hours = self._read_hours()
        answer = await self.workbench.controller.extend(own(user), server_name, hours)
        if isinstance(answer, Refused):
            raise refuse(answer)
        await self.answer(user, server_name)

    def _read_hours(self) -> float:
        body: Any = self.get_json_body()
        hours: Any = body.get("hours") if isinstance(body, dict) and len(body) == 1 else None
        # bool is an int in Python; NaN and the infinities compare as outside
        if type(hours) not in (int, float) or not 0 < hours <= MOST_HOURS:
            raise web.HTTPError(
                HTTPStatus.BAD_REQUEST,
                f'Say by how many hours, more than 0 and at most {MOST_HOURS}: {{"hours": 4}}.',
            )
        return float(hours)


def handlers(get_workbench: Callable[[], Workbench]) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the routes below the hub's prefix."""
    parts = {"get_workbench": get_workbench}
    return [
        ("/line", LinePage, parts),
        ("/api/workbench/line", LineAPI, parts),
        ("/api/workbench/lease/([^/]*)", LeaseAPI, parts),
    ]


def require(handler: BaseHandler, scope: str, *instead: str) -> None:
    """Let nobody pass who has neither ``scope`` nor any of those that will do ``instead``."""
    if not handler.current_user:
        raise web.HTTPError(HTTPStatus.FORBIDDEN, "Missing or invalid credentials.")
    if not any(map(handler.has_scope, (scope, *instead))):
        raise web.HTTPError(
            HTTPStatus.FORBIDDEN, f"This needs the scope {scope.partition('!')[0]}."
        )


def actor_of(handler: BaseHandler) -> str:
    """Return what the audit trail calls who asks."""
    return call_actor(handler.current_user)


def viewer_of(handler: BaseHandler, workbench: Workbench) -> Viewer:
    """Return who looks."""
    is_admin = handler.has_scope("admin-ui")
    return Viewer(handler.current_user.name, workbench.settings.show_line_names or is_admin)
