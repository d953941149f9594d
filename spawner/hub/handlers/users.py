"""Users: create, rename and delete them by JupyterHub's REST API.

All servers of a user end before the user is deleted; a user with a live lease is not renamed.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from jupyterhub.apihandlers.auth import TokenAPIHandler
from jupyterhub.apihandlers.users import UserAPIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.user import User
from jupyterhub.utils import maybe_future
from tornado import web

from spawner.hub.admins import require_other_admin
from spawner.hub.approval import ApprovedSignUp
from spawner.hub.handlers.access import actor_of
from spawner.hub.handlers.api_base import ApiHandler, WorkbenchHandler, bad_request
from spawner.hub.handlers.subjects import delete_subject
from spawner.hub.identity import quota_subject
from spawner.hub.servers.revocation import Extent, Revocation, revoke
from spawner.hub.servers.user_deletion import end_all_servers
from spawner.hub.workbench import Workbench
from spawner.ledger.trail import TrailAction, TrailEntry

_CHANGEABLE = frozenset({"name", "admin"})


class TokenApiHandler(WorkbenchHandler, TokenAPIHandler, ApiHandler):  # type: ignore[misc]
    """``/authorizations/token``: JupyterHub registers a GET without the token that its method needs."""

    def get(self, token: str = "") -> None:
        """Answer the owner of ``token``; without one, 404."""
        super().get(token)


class UserApiHandler(WorkbenchHandler, UserAPIHandler, ApiHandler):  # type: ignore[misc]
    """``/users/<user>``: creates, renames and deletes a user."""

    async def post(self, user_name: str) -> None:
        """Create a user with a name that can log in."""
        if not self.authenticator.validate_username(user_name):
            raise bad_request(f"{user_name[:40]!r} cannot be a user's name.")
        await super().post(user_name)

    async def patch(self, user_name: str) -> None:
        """Rename a user without servers, or make one an admin; ``/groups`` changes groups."""
        body = self.get_json_body() or {}
        if not body or body.keys() - _CHANGEABLE:
            raise bad_request("Only 'name' and 'admin' of a user can be changed here.")
        if body.get("name") == user_name:
            del body["name"]
        user = self.find_user(user_name)
        if user is None or not self._may("admin:users", user):
            await super().patch(user_name)
            return
        if "admin" in body:
            await record_admin(self, self.workbench, user, is_admin=body["admin"])
        if "name" not in body:
            await super().patch(user_name)
            return
        leases = await asyncio.to_thread(self.workbench.ledger.live_leases)
        if user.active or any(lease.user == user_name for lease in leases):
            raise web.HTTPError(
                HTTPStatus.CONFLICT.value,
                f"{user_name} has a server that runs, waits or ends: stop it, then rename the user.",
            )
        await self._rename(user, self.authenticator.normalize_username(body["name"]))

    async def _rename(self, user: User, new_name: str) -> None:
        name, authenticator = user.name, self.authenticator
        has_sign_up = isinstance(authenticator, ApprovedSignUp)
        if has_sign_up and authenticator.user_exists(new_name):
            raise web.HTTPError(
                HTTPStatus.CONFLICT.value,
                f"There is a sign-up as {new_name!r}: discard it first.",
            )
        await super().patch(name)
        if has_sign_up:
            authenticator.rename_user(name, new_name)
        # the cached user has addresses with the old name
        self.users.pop(user.id, None)

    async def delete(self, user_name: str) -> None:
        """Revoke what a user was given, end all servers of the user, then delete the user."""
        user = self.find_user(user_name)
        # JupyterHub refuses the deletion of oneself
        is_other = user is not None and user.name != self.current_user.name
        if not is_other or not self._may("delete:users", user):
            await super().delete(user_name)
            return
        await delete_user(self, self.workbench, user)
        self.set_status(HTTPStatus.NO_CONTENT)

    def _may(self, scope: str, user: User) -> bool:
        return bool(self.get_scope_filter(scope)(user, kind="user"))


async def record_admin(
    handler: BaseHandler, workbench: Workbench, user: User, *, is_admin: object
) -> None:
    """Write a change of admin's rights to the trail; raises a 409 for the only admin with a log-in."""
    if is_admin is False:
        _require_other_admin(handler, user)
    if is_admin is not user.admin:
        before, after = {"admin": user.admin}, {"admin": is_admin}
        entry = TrailEntry(
            workbench.clock(),
            actor_of(handler),
            TrailAction.USER_ADMIN_CHANGED,
            f"user {user.name}",
            before,
            after,
        )
        await asyncio.to_thread(workbench.ledger.record_entry, entry)
    if is_admin is False:
        # another change may have come between
        _require_other_admin(handler, user)


async def delete_user(
    handler: BaseHandler, workbench: Workbench, user: User, reason: str | None = None
) -> None:
    """Delete ``user`` with sessions, tokens, queue positions, servers and quota row; the home stays.

    Raises a 409 for the only admin with a log-in and while servers stop, Unknown.
    """
    _require_other_admin(handler, user)
    by = actor_of(handler)
    entry = TrailEntry(
        workbench.clock(), by, TrailAction.USER_DELETED, f"user {user.name}", reason=reason
    )
    await asyncio.to_thread(workbench.ledger.record_entry, entry)
    order = Revocation(Extent.ACCOUNT, by, reason or "the user was deleted")
    await revoke(workbench, user, order)
    await end_and_forget(handler, workbench, user)
    await maybe_future(handler.authenticator.delete_user(user))
    await user.delete_spawners()
    handler.users.delete(user)


def _require_other_admin(handler: BaseHandler, user: User) -> None:
    if isinstance(handler.authenticator, ApprovedSignUp):
        require_other_admin(handler.db, handler.authenticator.admin_users, user.name)


async def end_and_forget(handler: BaseHandler, workbench: Workbench, user: User) -> None:
    """End all servers of a user who will be deleted, and delete the quota row; raises a 409 while servers stop."""
    if not await end_all_servers(handler, workbench, user):
        raise web.HTTPError(
            HTTPStatus.CONFLICT.value,
            f"Servers of {user.name} are still stopping: delete the user again in a minute.",
        )
    await delete_subject(workbench, quota_subject(user).subject, actor_of(handler))
