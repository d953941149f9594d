"""Sign-up: creates accounts that can log in after an admin's approval.

Approving and discarding are POST requests, so that following a link does neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar

import bcrypt
from jupyterhub.app import JupyterHub
from nativeauthenticator.handlers import (
    AuthorizationAreaHandler,
    ChangePasswordAdminHandler,
    ChangePasswordHandler,
    DiscardHandler,
    SignUpHandler,
    ToggleAuthorizationHandler,
)
from nativeauthenticator.nativeauthenticator import NativeAuthenticator
from nativeauthenticator.orm import UserInfo
from tornado import web

NAME_PATTERN = r"[a-z][a-z0-9._@+-]{0,63}\Z"
MAX_PASSWORD_BYTES = 72  # bcrypt's own bound

_T = TypeVar("_T")
# a separate pool: reads of the ledger do not wait when many users log in at once
_threads = ThreadPoolExecutor(4, "bcrypt")
_new_hash: ContextVar[bytes] = ContextVar("_new_hash")
"""The hash of the new password in this request; computed off the event loop, because it takes 0.25 s."""


class ToggleByPost(ToggleAuthorizationHandler):  # type: ignore[misc]
    """Approves an account, or withdraws the approval."""

    async def get(self, slug: str) -> None:
        """Refuse: a link that an admin follows must not approve an account."""
        raise web.HTTPError(405)

    async def post(self, slug: str) -> None:
        """Toggle the approval of ``slug``."""
        if not self.authenticator.user_exists(slug):
            raise web.HTTPError(404, f"There is no sign-up with the name {slug!r}.")
        await super().get(slug)


class DiscardByPost(DiscardHandler):  # type: ignore[misc]
    """Removes a sign-up that is not approved."""

    async def get(self, user_name: str) -> None:
        """Refuse, as ToggleByPost does."""
        raise web.HTTPError(405)

    async def post(self, user_name: str) -> None:
        """Discard the sign-up of ``user_name``."""
        await super().get(user_name)


class _PasswordForm:
    """A page with password fields: refuses a password too long for bcrypt, and hashes a new one."""

    async def prepare(self: Any) -> None:
        await super().prepare()  # type: ignore[misc]
        old, new, first = (
            self.get_body_argument(field, "", strip=False).encode()
            for field in ("old_password", "new_password", "signup_password")
        )
        if max(map(len, (old, new, first))) > MAX_PASSWORD_BYTES:
            raise web.HTTPError(
                400, f"A password has at most {MAX_PASSWORD_BYTES} bytes: choose a shorter one."
            )
        if given := first or new:
            _new_hash.set(await _run_in_thread(bcrypt.hashpw, given, bcrypt.gensalt()))


class SignUp(_PasswordForm, SignUpHandler):  # type: ignore[misc]
    """The page to sign up."""

    def get_result_message(
        self,
        user: UserInfo | None,
        assume_user_is_human: bool,
        username_already_taken: bool,
        confirmation_matches: bool,
        user_is_admin: bool,
    ) -> tuple[str, str]:
        """Return the kind of the alert and its sentence: the cause of a refusal, and the next step."""
        if username_already_taken:
            return "alert-danger", "This username is taken: choose another one."
        if not confirmation_matches:
            return "alert-danger", "The two passwords differ: type them again."
        if user is None:
            return "alert-danger", (
                "Choose another username or password. A username has letters, digits and . _ - + @ and begins with a "
                f"letter. A password has at least {self.authenticator.minimum_password_length} characters and is not "
                "a common one."
            )
        alert: str
        message: str
        alert, message = super().get_result_message(
            user, assume_user_is_human, username_already_taken, confirmation_matches, user_is_admin
        )
        return alert, message


class ChangePassword(_PasswordForm, ChangePasswordHandler):  # type: ignore[misc]
    """The page to change one's own password."""

    @web.authenticated
    async def post(self) -> None:
        """Change the password; NativeAuthenticator's own handler would block the event loop with bcrypt."""
        name, authenticator, alert = self.current_user.name, self.authenticator, "alert-danger"
        old, new, confirmation = (
            self.get_body_argument(field, strip=False)
            for field in ("old_password", "new_password", "new_password_confirmation")
        )
        info: UserInfo | None = authenticator.get_user(name)
        if info is None or not await _run_in_thread(_is_password, old, info.password):
            message = "The current password is not correct: type it again."
        elif new != confirmation:
            message = "The two new passwords differ: type them again."
        elif not authenticator.change_password(name, new):
            message = (
                f"The new password needs at least {authenticator.minimum_password_length} characters "
                "and must not be a common one: choose another."
            )
        else:
            message, alert = "Your password is changed.", "alert-success"
        page = await self.render_template(
            "change-password.html", user_name=name, result_message=message, alert=alert
        )
        self.finish(page)


class ChangePasswordByAdmin(_PasswordForm, ChangePasswordAdminHandler):  # type: ignore[misc]
    """The page on which an admin sets a user's password."""


class ApprovedSignUp(NativeAuthenticator):  # type: ignore[misc]
    """NativeAuthenticator with JupyterHub's own log-in page; an admin's name cannot be signed up."""

    async def authenticate(self, handler: web.RequestHandler, data: dict[str, str]) -> str | None:
        """Return the user's name, None for a wrong password; raises a 403 when only the approval is missing.

        NativeAuthenticator's own method blocks the event loop with bcrypt for 0.25 s.
        """
        name: str = self.normalize_username(data["username"])
        info: UserInfo | None = self.get_user(name)
        if info is None or self.is_blocked(name):
            return None
        if not await _run_in_thread(_is_password, data["password"], info.password):
            self.add_login_attempt(name)
            return None
        if not info.is_authorized:
            raise web.HTTPError(
                403, "An admin has not approved your account yet: ask an admin, then log in again."
            )
        self.successful_login(name)
        return name

    def create_user(self, username: str, password: str, **_: object) -> UserInfo | None:
        """Store a sign-up with ``_new_hash``; return None when name or password is not acceptable.

        NativeAuthenticator's own method hashes on the event loop and queries every user one by one.
        """
        name: str = self.normalize_username(username)
        is_free = name not in self.admin_users and not self.user_exists(name)
        if not (is_free and self.validate_username(name) and self.is_password_strong(password)):
            return None
        info = UserInfo(username=name, password=_new_hash.get())
        self.db.add(info)
        self.db.commit()
        return info

    def change_password(self, username: str, new_password: str) -> bool:
        """Store ``_new_hash`` as the user's password; False for a weak password or an unknown user."""
        info: UserInfo | None = self.get_user(username)
        if info is None or not self.is_password_strong(new_password):
            return False
        info.password = _new_hash.get()
        self.db.commit()
        return True

    def rename_user(self, name: str, new_name: str) -> None:
        """Rename the sign-up of a user whom an admin renamed."""
        info: UserInfo | None = self.get_user(name)
        if info is not None:
            info.username = new_name
            self.db.commit()

    def get_handlers(self, app: JupyterHub) -> list[tuple[str, type[web.RequestHandler]]]:
        """Return the pages of sign-up and approval; the log-in page is JupyterHub's own."""
        return [
            (r"/signup", SignUp),
            (r"/authorize", AuthorizationAreaHandler),
            (r"/authorize/([^/]+)", ToggleByPost),
            (r"/discard/([^/]+)", DiscardByPost),
            (r"/change-password", ChangePassword),
            (r"/change-password/([^/]+)", ChangePasswordByAdmin),
        ]


async def _run_in_thread(compute: Callable[..., _T], *arguments: object) -> _T:
    return await asyncio.get_running_loop().run_in_executor(_threads, compute, *arguments)


def _is_password(password: str, hashed: bytes) -> bool:
    candidate = password.encode()
    return len(candidate) <= MAX_PASSWORD_BYTES and bcrypt.checkpw(candidate, hashed)
