"""REST API of homes: lists them with size and last use, mends one, and removes those of deleted users."""

from __future__ import annotations

import json

from jupyterhub import orm

from spawner.controller.user_homes import UserHome
from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import actor_of, require
from spawner.hub.handlers.admin_actions import AdminActionHandler, action_operation
from spawner.hub.handlers.api_base import GetWorkbench, Route, WorkbenchApiHandler
from spawner.hub.handlers.operation import operation
from spawner.hub.identity import identify_row
from spawner.hub.schema.base import AdminActionBody
from spawner.hub.schema.records import HomeJson, HomesJson
from spawner.hub.views.timestamps import Timestamp


class HomesHandler(WorkbenchApiHandler):
    """``GET /hub/api/workbench/homes``."""

    @operation(
        "listHomes",
        "List every home with its size and last use, those of deleted users first.",
        scope=scopes.HOMES,
        answers="The homes.",
        answer=HomesJson,
    )
    async def get(self) -> None:
        """Answer all homes, those of deleted users first."""
        require(self, scopes.HOMES, scopes.ADMIN)
        homes, measured_at = await self.workbench.controller.homes.list(_users(self))
        answer: HomesJson = {
            "homes": [self._as_json(home) for home in homes],
            "measured_at": None if measured_at is None else measured_at.isoformat(),
        }
        self.finish(json.dumps(answer))

    def _as_json(self, home: UserHome) -> HomeJson:
        last = home.last_used_at
        return {
            "home": home.volume,
            "user": home.user,
            "first_name": home.account.user,
            "uid": home.account.uid,
            "size_bytes": home.size_bytes,
            "is_in_use": home.is_in_use,
            "last_used_at": None
            if last is None
            else Timestamp(self.workbench.clock.to_wall(last)).iso,
        }


class HomeMendHandler(AdminActionHandler):
    """``POST /hub/api/workbench/homes/<home>/mend``; ``<home>`` may be the name of its user too."""

    @action_operation(
        "mendHome",
        "Give all files of a home to its user at the next start.",
        scope=scopes.HOMES,
        answers="The next start does it.",
    )
    async def post(self, home: str) -> None:
        """Let the next start give all files of this home to its user."""
        reason = self.read_action(scopes.HOMES, AdminActionBody).reason
        homes = self.workbench.controller.homes
        self.answer(await homes.mend(home, _users(self), by=actor_of(self), reason=reason))


class HomeRemoveHandler(AdminActionHandler):
    """``POST /hub/api/workbench/homes/<home>/remove``."""

    @action_operation(
        "removeHome",
        "Remove the home of a deleted user with all its files.",
        scope=scopes.HOMES,
        answers="It was removed.",
    )
    async def post(self, volume: str) -> None:
        """Remove this home of a deleted user, with all its files."""
        reason = self.read_action(scopes.HOMES, AdminActionBody).reason
        homes = self.workbench.controller.homes
        self.answer(await homes.remove(volume, _users(self), by=actor_of(self), reason=reason))


def home_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes, below the hub's prefix."""
    options = {"get_workbench": get_workbench}
    return [
        ("/api/workbench/homes", HomesHandler, options),
        ("/api/workbench/homes/([^/]+)/mend", HomeMendHandler, options),
        ("/api/workbench/homes/([^/]+)/remove", HomeRemoveHandler, options),
    ]


def _users(handler: WorkbenchApiHandler) -> dict[str, str]:
    """Return the names of the hub's users by identity."""
    rows = handler.db.query(orm.User.id, orm.User.created, orm.User.name)
    return {identify_row(row): row.name for row in rows}
