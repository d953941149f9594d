"""Groups by JupyterHub's REST API: every change is in the audit trail, as on the page of a person.

A change is written first. A user who leaves the only group that allowed the account loses everything else too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from jupyterhub import orm
from jupyterhub.apihandlers.groups import (
    GroupAPIHandler,
    GroupListAPIHandler,
    GroupUsersAPIHandler,
)
from jupyterhub.user import User

from spawner.hub.handlers.access import actor_of
from spawner.hub.handlers.api_base import ApiHandler, WorkbenchHandler
from spawner.hub.handlers.subjects import delete_subject
from spawner.hub.servers.group_allowance import revoke_without_allowed_group
from spawner.ledger.trail import TrailAction, TrailEntry
from spawner.policy.quota_rows import group


class _GroupRecorder(WorkbenchHandler):
    """Base: writes the entries of one change of a group."""

    async def record_members(self, group_name: str, *, is_member: bool) -> list[User]:
        """Write an entry for each user of the body whose membership changes, and return these users.

        Nothing is written for a request that JupyterHub refuses: without the right, or with an unknown user.
        """
        found = orm.Group.find(self.db, name=group_name)
        if found is None or not self.get_scope_filter("groups")(found, kind="group"):
            return []
        changed = []
        for user in self._select_users((self.get_json_body() or {}).get("users")):
            before = sorted(one.name for one in user.orm_user.groups)
            after = sorted({*before, group_name} if is_member else {*before} - {group_name})
            if before != after:
                sides = {"groups": before}, {"groups": after}
                await self._record(TrailAction.USER_GROUPS_CHANGED, f"user {user.name}", *sides)
                changed.append(user)
        return changed

    async def record_groups(self, group_name: str | None = None) -> None:
        """Write an entry for each new group: ``group_name``, or those of the body."""
        if "admin:groups" not in self.parsed_scopes:
            return
        body = self.get_json_body() or {}
        names = body.get("groups") if group_name is None else [group_name]
        members = {"members": [user.name for user in self._select_users(body.get("users"))]}
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return
        for name in names:
            if orm.Group.find(self.db, name=name) is None:
                await self._record(TrailAction.GROUP_CREATED, f"group {name}", None, members)

    async def _record(
        self,
        action: TrailAction,
        subject: str,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
    ) -> None:
        entry = TrailEntry(self.workbench.clock(), actor_of(self), action, subject, before, after)
        await asyncio.to_thread(self.workbench.ledger.record_entry, entry)

    def _select_users(self, names: object) -> Iterable[User]:
        """Return the users of ``names``; none if JupyterHub will refuse the list."""
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return []
        found = [self.find_user(self.authenticator.normalize_username(name)) for name in names]
        return [] if None in found else found


class GroupListApiHandler(_GroupRecorder, GroupListAPIHandler, ApiHandler):  # type: ignore[misc]
    """``/groups``: creates groups."""

    async def post(self) -> None:
        """Create groups."""
        await self.record_groups()
        await super().post()


class GroupApiHandler(_GroupRecorder, GroupAPIHandler, ApiHandler):  # type: ignore[misc]
    """``/groups/<group>``: creates a group; deletes one with its quota row."""

    async def post(self, group_name: str) -> None:
        """Create the group."""
        await self.record_groups(group_name)
        await super().post(group_name)

    async def delete(self, group_name: str) -> None:
        """Delete the group and its quota row; members that only this group allowed lose everything."""
        found = orm.Group.find(self.db, name=group_name)
        may_delete = self.get_scope_filter("delete:groups")
        members: list[User] = []
        if found is not None and may_delete(found, kind="group"):
            members = [self.users[row] for row in found.users]
            before = {"members": sorted(user.name for user in members)}
            await self._record(TrailAction.GROUP_DELETED, f"group {group_name}", before, None)
            await delete_subject(self.workbench, group(group_name), actor_of(self))
        super().delete(group_name)
        await _revoke_lost(self, members, group_name)


class GroupUsersApiHandler(_GroupRecorder, GroupUsersAPIHandler, ApiHandler):  # type: ignore[misc]
    """``/groups/<group>/users``: adds members, and removes them."""

    async def post(self, group_name: str) -> None:
        """Add members."""
        await self.record_members(group_name, is_member=True)
        super().post(group_name)

    async def delete(self, group_name: str) -> None:
        """Remove members."""
        removed = await self.record_members(group_name, is_member=False)
        await super().delete(group_name)
        await _revoke_lost(self, removed, group_name)


async def _revoke_lost(handler: _GroupRecorder, users: Iterable[User], group_name: str) -> None:
    for user in users:
        await revoke_without_allowed_group(
            handler.workbench, handler.authenticator, user, {group_name}, actor_of(handler)
        )
