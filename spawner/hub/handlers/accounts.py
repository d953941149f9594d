"""Account pages: change passwords, log out everywhere.

Every change is a POST, so that following a link changes nothing. A change that takes something back calls ``revoke``.
An admin's change is written to the audit trail first; without the trail nothing changes.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from nativeauthenticator.orm import UserInfo
from tornado import web

from spawner.hub.approval import ApprovedSignUp
from spawner.hub.handlers.access import actor_of, require
from spawner.hub.handlers.api_base import GetWorkbench, Route, WorkbenchHandler
from spawner.hub.servers.revocation import Extent, Revocation, revoke
from spawner.hub.sessions import current_session, renew_session
from spawner.ledger.trail import TrailAction, TrailEntry


class AccountHandler(WorkbenchHandler):
    """Base of the account pages."""

    async def record(
        self,
        action: TrailAction,
        name: str,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        reason: str | None = None,
        by: str | None = None,
    ) -> None:
        """Write ``action`` on the user ``name`` to the audit trail; raises Unknown."""
        now, actor = self.workbench.clock(), by or actor_of(self)
        entry = TrailEntry(now, actor, action, f"user {name}", before, after, reason)
        await asyncio.to_thread(self.workbench.ledger.record_entry, entry)

    async def revoke(
        self,
        name: str,
        extent: Extent,
        reason: str,
        kept_session: str | None = None,
        by: str | None = None,
    ) -> None:
        """Revoke what the user ``name`` was given; an account that never logged in has nothing."""
        user = self.find_user(name)
        if user is not None:
            order = Revocation(extent, by or actor_of(self), reason, kept_session)
            await revoke(self.workbench, user, order)

    def get_account(self, name: str) -> UserInfo:
        """Return the account ``name``; raises a 404 without one."""
        info: UserInfo | None = self.authenticator.get_user(name)
        if info is None:
            raise web.HTTPError(404, f"There is no sign-up with the name {name[:40]!r}.")
        return info

    def read_fields(self, *names: str) -> list[str]:
        """Return fields of the form with their blanks; a field that is not there is empty."""
        return [self.get_body_argument(name, "", strip=False) for name in names]

    async def finish_form(self, template: str, errors: dict[str, str], **names: object) -> None:
        """Answer the form again with the errors by field, as a 400, or its success."""
        if errors:
            self.set_status(HTTPStatus.BAD_REQUEST)
        self.finish(await self.render_template(template, errors=errors, **names))


class PasswordPageHandler(AccountHandler):
    """``/change-password``: one's own password, and *Log out everywhere*."""

    @web.authenticated
    async def get(self) -> None:
        """Show the form."""
        await self._finish({}, is_done=False)

    @web.authenticated
    async def post(self) -> None:
        """Change the password, and end all other sessions and all tokens of the user."""
        name, authenticator = self.current_user.name, self.authenticator
        old, new, again = self.read_fields(
            "old_password", "new_password", "new_password_confirmation"
        )
        self.get_account(name)
        error: str | None
        if new != again:
            errors = {"again": "The two new passwords differ: type them again."}
        elif not await authenticator.is_own_password(self, name, old):
            errors = {"old": "The current password is not correct: type it again."}
        elif (error := await authenticator.set_password(self, name, new)) is not None:
            errors = {"new": error}
        else:
            errors = {}
            kept = current_session(self)
            await self.revoke(name, Extent.SESSIONS, "the password was changed", kept)
            if kept is not None:
                renew_session(self, self.current_user)
        await self._finish(errors, is_done=not errors)

    async def _finish(self, errors: dict[str, str], *, is_done: bool) -> None:
        await self.finish_form(
            "change-password.html",
            errors,
            user_name=self.current_user.name,
            is_done=is_done,
            is_own=True,
        )


class PasswordByAdminHandler(AccountHandler):
    """``/change-password/<name>``: an admin sets a user's password."""

    async def get(self, name: str) -> None:
        """Show the form."""
        require(self, "admin:users")
        self.get_account(name)
        await self._finish(name, {}, is_done=False)

    async def post(self, name: str) -> None:
        """Set the password; the user's sessions, tokens and queue positions end."""
        require(self, "admin:users")
        new, again = self.read_fields("new_password", "new_password_confirmation")
        self.get_account(name)
        record = functools.partial(self.record, TrailAction.USER_PASSWORD_SET, name)
        error: str | None
        if new != again:
            errors = {"again": "The two new passwords differ: type them again."}
        elif (error := await self.authenticator.set_password(self, name, new, record)) is not None:
            errors = {"new": error}
        else:
            errors = {}
            await self.revoke(name, Extent.QUEUE, "an admin set a new password")
        await self._finish(name, errors, is_done=not errors)

    async def _finish(self, name: str, errors: dict[str, str], *, is_done: bool) -> None:
        await self.finish_form(
            "change-password.html", errors, user_name=name, is_done=is_done, is_own=False
        )


class LogOutEverywhereHandler(AccountHandler):
    """``/log-out-everywhere``: ends all that the user is logged in with."""

    @web.authenticated
    async def post(self) -> None:
        """End every session, token and queue position of the user; servers go on."""
        name = self.current_user.name
        await self.record(TrailAction.USER_LOGGED_OUT, name)
        await self.revoke(name, Extent.QUEUE, "log out everywhere")
        self.clear_login_cookie()
        self.redirect(self.settings["login_url"])


def account_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes of every authenticator."""
    return [
        (r"/log-out-everywhere", LogOutEverywhereHandler, {"get_workbench": get_workbench}),
    ]


def password_handlers(authenticator: type, get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes of passwords, if ``authenticator`` has them."""
    if not issubclass(authenticator, ApprovedSignUp):
        return []
    options = {"get_workbench": get_workbench}
    return [
        (r"/change-password", PasswordPageHandler, options),
        (r"/change-password/([^/]+)", PasswordByAdminHandler, options),
    ]
