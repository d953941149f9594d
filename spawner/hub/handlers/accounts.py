"""Account pages: sign up, approve and discard sign-ups, change passwords, log out everywhere.

Every change is a POST, so that following a link changes nothing. A change that takes something back calls ``revoke``.
An admin's change is written to the audit trail first; without the trail nothing changes.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from jupyterhub.user import User
from nativeauthenticator.orm import UserInfo
from tornado import web

from spawner.hub.admins import require_other_admin
from spawner.hub.approval import ApprovedSignUp, TooManyAttemptsError
from spawner.hub.handlers.access import actor_of, require
from spawner.hub.handlers.api_base import GetWorkbench, Route, WorkbenchHandler
from spawner.hub.handlers.users import end_and_forget
from spawner.hub.servers.revocation import Extent, Revocation, revoke
from spawner.hub.sessions import current_session, renew_session
from spawner.ledger.trail import TrailAction, TrailEntry


class AccountHandler(WorkbenchHandler):
    """Base of the account pages."""

    async def record(self, action: TrailAction, name: str) -> None:
        """Write ``action`` on the user ``name`` to the audit trail; raises Unknown."""
        entry = TrailEntry(self.workbench.clock(), actor_of(self), action, f"user {name}")
        await asyncio.to_thread(self.workbench.ledger.record_entry, entry)

    async def revoke(
        self, name: str, extent: Extent, reason: str, kept_session: str | None = None
    ) -> None:
        """Revoke what the user ``name`` was given; an account that never logged in has nothing."""
        user = self.find_user(name)
        if user is not None:
            order = Revocation(extent, actor_of(self), reason, kept_session)
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


class SignUpPageHandler(AccountHandler):
    """``/signup``."""

    async def get(self) -> None:
        """Show the form."""
        self.finish(
            await self.render_template("signup.html", errors={}, username="", is_done=False)
        )

    async def post(self) -> None:
        """Store a sign-up, or show the form again with an error at each field and the typed name."""
        name, password, again = self.read_fields(
            "username", "signup_password", "signup_password_confirmation"
        )
        try:
            if password != again:
                errors = {"again": "The two passwords differ: type them again."}
            else:
                errors = await self.authenticator.sign_up(self, name, password)
        except TooManyAttemptsError as error:
            self.set_status(error.status_code)
            for header, value in error.headers.items():
                self.set_header(header, value)
            page = {"errors": {"form": error.jupyterhub_message}, "username": name}
            self.finish(await self.render_template("signup.html", is_done=False, **page))
            return
        await self.finish_form("signup.html", errors, username=name, is_done=not errors)


class ApprovalPageHandler(AccountHandler):
    """``/authorize``: the accounts, with those that wait for approval first."""

    async def get(self) -> None:
        """Show all accounts."""
        require(self, "admin:users")
        accounts = self.db.query(UserInfo).order_by(UserInfo.is_authorized, UserInfo.username)
        self.finish(await self.render_template("authorization-area.html", users=accounts.all()))


class ApprovalHandler(AccountHandler):
    """``/authorize/<name>``: approves an account, or takes the approval back.

    The field ``approved`` is ``yes`` or ``no``; without it the approval is toggled.
    """

    async def get(self, name: str) -> None:
        """Refuse: a link that an admin follows must not approve an account."""
        raise web.HTTPError(405)

    async def post(self, name: str) -> None:
        """Change the approval; without it the user's sessions, tokens, queue positions and servers end."""
        require(self, "admin:users")
        info = self.get_account(name)
        wanted = self.get_body_argument("approved", "no" if info.is_authorized else "yes")
        if wanted == "yes":
            if not info.is_authorized:
                await self.record(TrailAction.USER_APPROVED, name)
            self.authenticator.set_approval(name, is_approved=True)
        else:
            require_other_admin(self.db, self.authenticator.admin_users, name)
            if info.is_authorized:
                await self.record(TrailAction.USER_UNAPPROVED, name)
            self.authenticator.set_approval(name, is_approved=False)
            await self.revoke(name, Extent.ACCOUNT, "the account is not approved any more")
        self.redirect(f"{self.hub.base_url}authorize#{name}")


class DiscardHandler(AccountHandler):
    """``/discard/<name>``: removes an account that is not approved, with its user."""

    async def get(self, name: str) -> None:
        """Refuse, as ApprovalHandler does."""
        raise web.HTTPError(405)

    async def post(self, name: str) -> None:
        """Discard the account, and end all that its user has."""
        require(self, "admin:users")
        if self.authenticator.is_unapproved(name):
            await self.record(TrailAction.USER_DISCARDED, name)
            await self.revoke(name, Extent.ACCOUNT, "the account was removed")
            user = self.find_user(name)
            if user is not None:
                await end_and_forget(self, self.workbench, user)
                await user.delete_spawners()
                self.users.delete(user)
            # an admin may have approved it meanwhile
            if self.authenticator.is_unapproved(name):
                self.db.delete(self.get_account(name))
                self.db.commit()
        self.redirect(f"{self.hub.base_url}authorize")


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
        error: str | None
        if new != again:
            errors = {"again": "The two new passwords differ: type them again."}
        elif (error := await self.authenticator.set_password(self, name, new)) is not None:
            errors = {"new": error}
        else:
            errors = {}
            await self.revoke(name, Extent.QUEUE, "an admin set a new password")
            await self.record(TrailAction.USER_PASSWORD_SET, name)
        await self._finish(name, errors, is_done=not errors)

    async def _finish(self, name: str, errors: dict[str, str], *, is_done: bool) -> None:
        await self.finish_form(
            "change-password.html", errors, user_name=name, is_done=is_done, is_own=False
        )


class LogOutEverywhereHandler(AccountHandler):
    """``/log-out-everywhere`` of the user, and ``/log-out-everywhere/<name>`` for an admin."""

    @web.authenticated
    async def post(self, name: str = "") -> None:
        """End every session, token and queue position of the user; servers go on."""
        own: User = self.current_user
        target = self.find_user(name) if name else own
        if target is None or (
            target is not own and not self.has_scope(f"admin:users!user={target.name}")
        ):
            raise web.HTTPError(404, f"There is no user {name[:40]!r}.")
        await self.record(TrailAction.USER_LOGGED_OUT, target.name)
        await self.revoke(target.name, Extent.QUEUE, "log out everywhere")
        if target is own:
            self.clear_login_cookie()
            self.redirect(self.settings["login_url"])
        else:
            self.redirect(f"{self.hub.base_url}authorize#{target.name}")


def account_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes of every authenticator."""
    return [
        (r"/log-out-everywhere", LogOutEverywhereHandler, {"get_workbench": get_workbench}),
        (r"/log-out-everywhere/([^/]+)", LogOutEverywhereHandler, {"get_workbench": get_workbench}),
    ]


def sign_up_handlers(authenticator: type, get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes of sign-up and approval, if ``authenticator`` has them."""
    if not issubclass(authenticator, ApprovedSignUp):
        return []
    options = {"get_workbench": get_workbench}
    return [
        (r"/signup", SignUpPageHandler, options),
        (r"/authorize", ApprovalPageHandler, options),
        (r"/authorize/([^/]+)", ApprovalHandler, options),
        (r"/discard/([^/]+)", DiscardHandler, options),
        (r"/change-password", PasswordPageHandler, options),
        (r"/change-password/([^/]+)", PasswordByAdminHandler, options),
    ]
