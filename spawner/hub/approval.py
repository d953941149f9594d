"""Sign-up with an admin's approval.

Nobody is let in unless an admin approved them; approving and discarding are POSTs, so that no link can do them.
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
# threads of their own: the ledger's reads do not wait for a crowd that logs in
_threads = ThreadPoolExecutor(4, "bcrypt")
_new_hash: ContextVar[bytes] = ContextVar("_new_hash")
"""Of the password that this request gives somebody: made off the event loop, for a quarter of a second."""


class ToggleByPost(ToggleAuthorizationHandler):  # type: ignore[misc]
    """Approves a person, or takes the approval back."""

    async def get(self, slug: str) -> None:
        """Refuse: an admin who follows a link must not approve anyone."""
        raise web.HTTPError(405)

    async def post(self, slug: str) -> None:
        """Toggle the approval of ``slug``."""
        if not self.authenticator.user_exists(slug):
            raise web.HTTPError(404, f"Nobody named {slug!r} has signed up.")
        await super().get(slug)


class DiscardByPost(DiscardHandler):  # type: ignore[misc]
    """Removes the sign-up of somebody who is not approved."""

    async def get(self, user_name: str) -> None:
        """Refuse: see ToggleByPost."""
        raise web.HTTPError(405)

    async def post(self, user_name: str) -> None:
        """Discard the sign-up of ``user_name``."""
        await super().get(user_name)


class _PasswordForm:
    """A page that takes passwords: what bcrypt cannot read is refused in one sentence, a new one is hashed."""

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
    """The page on which somebody asks for an account."""


class ChangePassword(_PasswordForm, ChangePasswordHandler):  # type: ignore[misc]
    """The page on which somebody changes their password."""

    @web.authenticated
    async def post(self) -> None:
        """Change it and say so, or why not; in place of NativeAuthenticator's own, which compares on the event loop."""
        name, authenticator, alert = self.current_user.name, self.authenticator, "alert-danger"
        old, new, confirmation = (
            self.get_body_argument(field, strip=False)
            for field in ("old_password", "new_password", "new_password_confirmation")
        )
        info: UserInfo | None = authenticator.get_user(name)
        if info is None or not await _run_in_thread(_is_password, old, info.password):
            message = "Your current password was incorrect. Please try again."
        elif new != confirmation:
            message = "Your new password didn't match the confirmation. Please try again."
        elif not authenticator.change_password(name, new):
            message = (
                "Something went wrong!\nBe sure your new password has at least "
                f"{authenticator.minimum_password_length} characters and is not too common."
            )
        else:
            message, alert = "Your password has been changed successfully!", "alert-success"
        page = await self.render_template(
            "change-password.html", user_name=name, result_message=message, alert=alert
        )
        self.finish(page)


class ChangePasswordByAdmin(_PasswordForm, ChangePasswordAdminHandler):  # type: ignore[misc]
    """The page on which an admin gives somebody another password."""


class ApprovedSignUp(NativeAuthenticator):  # type: ignore[misc]
    """NativeAuthenticator whose log-in page is JupyterHub's own and whose admins cannot be signed up as."""

    async def authenticate(self, handler: web.RequestHandler, data: dict[str, str]) -> str | None:
        """Return the user's name, None for a wrong password; says so when only the approval is missing.

        In place of NativeAuthenticator's own, which compares passwords on the event loop: a quarter of a second each.
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
                403, "An admin has not approved your account yet: ask one, then log in again."
            )
        self.successful_login(name)
        return name

    def create_user(self, username: str, password: str, **_: object) -> UserInfo | None:
        """Store a sign-up with ``_new_hash``; None when it cannot be one. Nobody can sign up as an admin.

        In place of NativeAuthenticator's own, which hashes on the event loop and asks for every user one by one.
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
        """Store ``_new_hash`` as a user's; False when the password is too weak, or there is no such user."""
        info: UserInfo | None = self.get_user(username)
        if info is None or not self.is_password_strong(new_password):
            return False
        info.password = _new_hash.get()
        self.db.commit()
        return True

    def rename_user(self, name: str, new_name: str) -> None:
        """Let the sign-up of a user whom an admin renamed be theirs by the new name."""
        info: UserInfo | None = self.get_user(name)
        if info is not None:
            info.username = new_name
            self.db.commit()

    def get_handlers(self, app: JupyterHub) -> list[tuple[str, type[web.RequestHandler]]]:
        """Return the pages of sign-up and approval; log-in stays JupyterHub's own."""
        return [
            (r"/signup", SignUp),
            (r"/authorize", AuthorizationAreaHandler),
            (r"/authorize/([^/]+)", ToggleByPost),
            (r"/discard/([^/]+)", DiscardByPost),
            (r"/change-password", ChangePassword),
            (r"/change-password/([^/]+)", ChangePasswordByAdmin),
        ]


async def _run_in_thread(compute: Callable[..., _T], *words: object) -> _T:
    return await asyncio.get_running_loop().run_in_executor(_threads, compute, *words)


def _is_password(password: str, hashed: bytes) -> bool:
    candidate = password.encode()
    return len(candidate) <= MAX_PASSWORD_BYTES and bcrypt.checkpw(candidate, hashed)
