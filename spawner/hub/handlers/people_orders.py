"""Orders over people: approve, decline, groups, rights, log-out, stop and deletion, for the page and the REST API.

An order is written to the audit trail first; without the trail nothing changes. An order that takes something back
ends sessions, tokens, queue positions and servers by ``revoke``.
"""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus

from jupyterhub.roles import assign_default_roles
from jupyterhub.user import User
from nativeauthenticator.orm import UserInfo
from tornado import web

from spawner.hub.admins import require_other_admin
from spawner.hub.approval import ApprovedSignUp
from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import actor_of, require
from spawner.hub.handlers.accounts import AccountHandler
from spawner.hub.handlers.api_base import bad_request
from spawner.hub.handlers.users import delete_user, end_and_forget, record_admin
from spawner.hub.refusal import to_http_error
from spawner.hub.schema.people import MAX_GROUP_CHARACTERS, MAX_GROUPS
from spawner.hub.servers.group_allowance import revoke_without_allowed_group
from spawner.hub.servers.revocation import Extent
from spawner.ledger.trail import TrailAction
from spawner.model import Refused

APPROVAL_WITHDRAWN = "the account is not approved any more"


class PeopleOrders(AccountHandler):
    """Base of page and REST API: the orders, each with its check of rights; raises web.HTTPError, Unknown."""

    @property
    def has_sign_up(self) -> bool:
        """True for accounts that an admin approves."""
        return isinstance(self.authenticator, ApprovedSignUp)

    async def approve(self, name: str, reason: str | None) -> None:
        """Let the account ``name`` log in."""
        self._require_right(name)
        if not self._get_account(name).is_authorized:
            await self.record(TrailAction.USER_APPROVED, name, reason=reason)
        self.authenticator.set_approval(name, is_approved=True)

    async def unapprove(self, name: str, reason: str | None) -> None:
        """Take the approval back: sessions, tokens, queue positions and servers end."""
        self._require_right(name)
        is_approved = self._get_account(name).is_authorized
        require_other_admin(self.db, self.authenticator.admin_users, name)
        if is_approved:
            await self.record(TrailAction.USER_UNAPPROVED, name, reason=reason)
        self.authenticator.set_approval(name, is_approved=False)
        await self.revoke(name, Extent.ACCOUNT, reason or APPROVAL_WITHDRAWN)

    async def decline(self, name: str, reason: str | None) -> None:
        """Remove an account that is not approved, with its user; refused for an approved one."""
        self._require_right(name)
        if self._get_account(name).is_authorized:
            raise _conflict(f"{name} is approved: withdraw the approval first.")
        await self.record(TrailAction.USER_DISCARDED, name, reason=reason)
        await self.revoke(name, Extent.ACCOUNT, reason or "the account was removed")
        user = self.find_user(name)
        if user is not None:
            await end_and_forget(self, self.workbench, user)
            await user.delete_spawners()
            self.users.delete(user)
        # an admin may have approved it meanwhile
        if self.authenticator.is_unapproved(name):
            self.db.delete(self._get_account(name))
            self.db.commit()

    async def set_groups(self, name: str, groups: Collection[str], reason: str | None) -> None:
        """Replace the groups of the user ``name``; a group that does not exist is created."""
        require(self, "admin:groups")
        user = self.get_user(name)
        for group in groups:
            if not (0 < len(group) <= MAX_GROUP_CHARACTERS and group.isprintable()):
                raise bad_request(
                    f"A group's name has 1 to {MAX_GROUP_CHARACTERS} printable characters."
                )
        if len(groups) > MAX_GROUPS:
            raise bad_request(f"A user is in at most {MAX_GROUPS} groups.")
        before, after = sorted(group.name for group in user.orm_user.groups), sorted(set(groups))
        if before == after:
            return
        await self.record(
            TrailAction.USER_GROUPS_CHANGED,
            name,
            before={"groups": before},
            after={"groups": after},
            reason=reason,
        )
        user.sync_groups(after)
        self.db.commit()
        lost = {*before} - {*after}
        await revoke_without_allowed_group(
            self.workbench, self.authenticator, user, lost, actor_of(self)
        )

    async def set_admin(self, name: str, *, is_admin: bool) -> None:
        """Give the user ``name`` an admin's rights, or take them back."""
        self._require_right(name)
        user = self.get_user(name)
        if not self.current_user.admin:
            raise web.HTTPError(
                HTTPStatus.FORBIDDEN.value, "Only an admin makes or removes an admin."
            )
        if not is_admin and name in self.authenticator.admin_users:
            raise _conflict(
                f"{name} is an admin by the settings, at each log-in: change them first."
            )
        await record_admin(self, self.workbench, user, is_admin=is_admin)
        user.admin = is_admin
        assign_default_roles(self.db, entity=user)
        self.db.commit()

    async def log_out(self, name: str, reason: str | None) -> None:
        """End every session, token and queue position of the user ``name``; servers go on."""
        self._require_right(name)
        self.get_user(name)
        await self.record(TrailAction.USER_LOGGED_OUT, name, reason=reason)
        await self.revoke(name, Extent.QUEUE, reason or "log out everywhere")

    async def stop(self, name: str, lease_id: str, reason: str | None) -> None:
        """End one lease of the user ``name``, or take it out of the queue; the user reads the reason."""
        require(self, scopes.END, scopes.ADMIN)
        if reason is None:
            raise bad_request("Give a reason: the user reads it.")
        actions = self.workbench.controller.admin_actions
        outcome = await actions.end(lease_id, by=actor_of(self), reason=reason)
        if isinstance(outcome, Refused):
            raise to_http_error(outcome)

    async def delete_person(self, name: str, reason: str | None) -> None:
        """Delete the user ``name`` with everything but the home; also an account without a user."""
        require(self, f"delete:users!user={name}")
        user = self.find_user(name)
        if user is not None:
            if user.name == self.current_user.name:
                raise _conflict("You cannot delete your own account: ask another admin.")
            await delete_user(self, self.workbench, user, reason)
            return
        account = self._get_account(name)
        require_other_admin(self.db, self.authenticator.admin_users, name)
        await self.record(TrailAction.USER_DELETED, name, reason=reason)
        self.db.delete(account)
        self.db.commit()

    def get_user(self, name: str) -> User:
        """Return the user ``name``; raises a 404 without one."""
        user = self.find_user(name)
        if user is None:
            raise web.HTTPError(404, f"There is no user {name[:40]!r}.")
        return user

    def _get_account(self, name: str) -> UserInfo:
        if not self.has_sign_up:
            raise _conflict("Accounts need no approval here: the identity provider has them.")
        return self.get_account(name)

    def _require_right(self, name: str) -> None:
        require(self, f"admin:users!user={name}")


ORDERS = {
    "approve": PeopleOrders.approve,
    "unapprove": PeopleOrders.unapprove,
    "decline": PeopleOrders.decline,
    "log-out": PeopleOrders.log_out,
}
"""The orders that need a name and an optional reason only, by the last part of their address."""


def _conflict(sentence: str) -> web.HTTPError:
    return web.HTTPError(HTTPStatus.CONFLICT.value, "%s", sentence)
