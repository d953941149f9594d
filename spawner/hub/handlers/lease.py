"""REST API of the lease of one of one's own servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from jupyterhub.user import User
from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import require
from spawner.hub.handlers.doors import ApiHandler
from spawner.hub.identity import quota_subject
from spawner.hub.refusal import to_http_error
from spawner.hub.views.lease import build_lease_view
from spawner.hub.workbench import Workbench
from spawner.model import Refused

MAX_HOURS = 8760


class OwnLease(ApiHandler):
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
        lease = await build_lease_view(self.workbench, user, server_name)
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
        answer = await self.workbench.controller.extend(quota_subject(user), server_name, hours)
        if isinstance(answer, Refused):
            raise to_http_error(answer)
        await self.answer(user, server_name)

    def _read_hours(self) -> float:
        body: Any = self.get_json_body()
        hours: Any = body.get("hours") if isinstance(body, dict) and len(body) == 1 else None
        # bool is an int in Python; NaN and the infinities compare as outside
        if type(hours) not in (int, float) or not 0 < hours <= MAX_HOURS:
            raise web.HTTPError(
                HTTPStatus.BAD_REQUEST,
                f'Say by how many hours, more than 0 and at most {MAX_HOURS}: {{"hours": 4}}.',
            )
        return float(hours)


def lease_handlers(
    get_workbench: Callable[[], Workbench],
) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the routes below the hub's prefix."""
    return [("/api/workbench/lease/([^/]*)", LeaseAPI, {"get_workbench": get_workbench})]
