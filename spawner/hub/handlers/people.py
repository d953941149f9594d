"""People as the REST API makes, renames and deletes them.

Whoever leaves has ended everything first, and nobody is renamed while a lease has their name.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from jupyterhub import orm
from jupyterhub.apihandlers.groups import GroupAPIHandler
from jupyterhub.apihandlers.users import UserAPIHandler
from jupyterhub.user import User
from tornado import web

from spawner.hub.approval import ApprovedSignUp
from spawner.hub.handlers.access import actor_of
from spawner.hub.handlers.doors import ApiHandler, GetWorkbench, bad_request
from spawner.hub.handlers.subjects import forget_subject
from spawner.hub.identity import quota_subject
from spawner.hub.servers.user_deletion import end_all_servers
from spawner.hub.workbench import Workbench
from spawner.model import Unknown
from spawner.policy.quota_rows import Subject, group

_CHANGEABLE = frozenset({"name", "admin"})


class GroupDoor(GroupAPIHandler, ApiHandler):  # type: ignore[misc]
    """``/groups/<group>``: a group that is deleted leaves no row of the quotas."""

    def initialize(self, get_workbench: GetWorkbench) -> None:
        """Take the parts from the configuration."""
        self.workbench = get_workbench()

    async def delete(self, group_name: str) -> None:
        """Delete the group and its row."""
        found = orm.Group.find(self.db, name=group_name)
        may_delete = self.get_scope_filter("delete:groups")
        if found is not None and may_delete(found, kind="group"):
            await _forget(self.workbench, group(group_name), actor_of(self))
        super().delete(group_name)


async def _forget(workbench: Workbench, subject: Subject, by: str) -> None:
    try:
        await forget_subject(workbench, subject, by)
    except Unknown as error:
        raise web.HTTPError(HTTPStatus.SERVICE_UNAVAILABLE.value, str(error)) from error


class UserDoor(UserAPIHandler, ApiHandler):  # type: ignore[misc]
    """``/users/<user>``: making, renaming and deleting people."""

    def initialize(self, get_workbench: GetWorkbench) -> None:
        """Take the parts from the configuration."""
        self.workbench = get_workbench()

    async def post(self, user_name: str) -> None:
        """Make a user, by a name with which they could log in."""
        if not self.authenticator.validate_username(user_name):
            raise bad_request(f"{user_name[:40]!r} cannot be a user's name.")
        await super().post(user_name)

    async def patch(self, user_name: str) -> None:
        """Rename a user who has no server, or make one an admin; groups are changed as groups."""
        body = self.get_json_body() or {}
        if not body or body.keys() - _CHANGEABLE:
            raise bad_request("Only 'name' and 'admin' of a user can be changed here.")
        if body.get("name") == user_name:
            del body["name"]
        user = self.find_user(user_name)
        if user is None or "name" not in body or not self._may("admin:users", user):
            await super().patch(user_name)
            return
        leases = await asyncio.to_thread(self.workbench.ledger.live_leases)
        if user.active or any(lease.user == user_name for lease in leases):
            raise web.HTTPError(
                HTTPStatus.CONFLICT.value,
                f"{user_name} has a server that runs, waits or ends: stop it, then rename them.",
            )
        await self._rename(user, self.authenticator.normalize_username(body["name"]))

    async def _rename(self, user: User, new_name: str) -> None:
        name, authenticator = user.name, self.authenticator
        has_sign_up = isinstance(authenticator, ApprovedSignUp)
        if has_sign_up and authenticator.user_exists(new_name):
            raise web.HTTPError(
                HTTPStatus.CONFLICT.value,
                f"Somebody has signed up as {new_name!r}: discard that first.",
            )
        await super().patch(name)
        if has_sign_up:
            authenticator.rename_user(name, new_name)
        # the name is part of addresses that the wrapper made when it was made
        self.users.pop(user.id, None)

    async def delete(self, user_name: str) -> None:
        """Delete a user once all their servers have ended."""
        user = self.find_user(user_name)
        if user is not None and self._may("delete:users", user):
            await self._require_departed(user)
        await super().delete(user_name)

    async def _require_departed(self, user: User) -> None:
        if user.name == self.current_user.name:
            return  # JupyterHub lets nobody delete themselves
        if not await end_all_servers(self, self.workbench, user):
            raise web.HTTPError(
                HTTPStatus.CONFLICT.value,
                f"Servers of {user.name} are still being stopped: delete them again in a minute.",
            )
        await _forget(self.workbench, quota_subject(user).subject, actor_of(self))

    def _may(self, scope: str, user: User) -> bool:
        return bool(self.get_scope_filter(scope)(user, kind="user"))
