"""Password reset: an admin makes a link, and the user chooses a new password with it.

The link is signed and holds the account's stamp. It is worth nothing after one use, after any other change of the
password, or after a day. Nothing is stored.
"""

from __future__ import annotations

import time
from http import HTTPStatus

from tornado import web
from tornado.httputil import url_concat

from spawner.hub.approval import ApprovedSignUp, TooManyAttemptsError
from spawner.hub.handlers.access import require
from spawner.hub.handlers.accounts import AccountHandler
from spawner.hub.handlers.api_base import ApiHandler, GetWorkbench, Route, bad_request
from spawner.hub.handlers.operation import operation
from spawner.hub.schema.people import PasswordLinkJson
from spawner.hub.servers.revocation import Extent
from spawner.hub.views.timestamps import Timestamp
from spawner.ledger.trail import TrailAction

PURPOSE = "workbench-password-reset"
LINK_HOURS = 24
EXPIRED = "This link was used, or is older than a day: ask an admin for a new one."


async def make_password_link(handler: AccountHandler, name: str) -> str:
    """Return the path of a link with which the user ``name`` chooses a new password; the trail has it first."""
    authenticator = handler.authenticator
    if not isinstance(authenticator, ApprovedSignUp):
        raise web.HTTPError(
            HTTPStatus.CONFLICT.value,
            "The identity provider has the passwords: reset them there.",
        )
    handler.get_account(name)
    await handler.record(TrailAction.USER_PASSWORD_LINK, name)
    value = f"{name}:{authenticator.stamp(name)}"
    token = handler.create_signed_value(PURPOSE, value).decode()
    return str(url_concat(f"{handler.hub.base_url}reset-password", {"token": token}))


class PasswordLinkApiHandler(AccountHandler, ApiHandler):
    """``/api/workbench/people/<name>/password-link``."""

    @operation(
        "makePasswordLink",
        "Make a link with which a user chooses a new password, once and within a day.",
        scope="admin:users",
        answers="The link.",
        answer=PasswordLinkJson,
        refusals=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    )
    async def post(self, name: str) -> None:
        """Answer a link with which the user ``name`` chooses a new password."""
        require(self, f"admin:users!user={name}")
        if self.get_json_body():
            raise bad_request("A link needs no body.")
        path = await make_password_link(self, name)
        public = self.workbench.settings.public_url
        link: PasswordLinkJson = {
            "path": path,
            "url": f"{public}{path}" if public else None,
            "expires_at": Timestamp(time.time() + LINK_HOURS * 3600).iso,
        }
        self.write(link)


class PasswordResetHandler(AccountHandler):
    """``/reset-password``: the form behind the link."""

    async def get(self) -> None:
        """Show the form."""
        name = self._linked_name()
        if not name:
            self.set_status(HTTPStatus.GONE.value)
        await self._finish(name, {} if name else {"link": EXPIRED}, is_done=False)

    async def post(self) -> None:
        """Set the password; all sessions and tokens of the user end, and the link with them."""
        name = self._linked_name()
        new, again = self.read_fields("new_password", "new_password_confirmation")
        if not name:
            errors = {"link": EXPIRED}
        elif new != again:
            errors = {"again": "The two passwords differ: type them again."}
        else:
            errors = await self._set(name, new)
        if errors:
            self.set_status(HTTPStatus.BAD_REQUEST.value)
        await self._finish(name, errors, is_done=not errors)

    async def _set(self, name: str, password: str) -> dict[str, str]:
        async def record() -> None:
            await self.record(TrailAction.USER_PASSWORD_SET, name, by=name)

        stamp = self.authenticator.stamp(name)
        try:
            error = await self.authenticator.set_password(self, name, password, record, stamp)
        except TooManyAttemptsError as busy:
            return {"new": busy.jupyterhub_message}
        if error is not None:
            return {"new": error}
        await self.revoke(name, Extent.SESSIONS, "the password was changed by a link", by=name)
        return {}

    def _linked_name(self) -> str:
        token = self.get_argument("token", "")
        found = self.get_secure_cookie(PURPOSE, value=token, max_age_days=LINK_HOURS / 24)
        name, _, stamp = (found or b"").decode().partition(":")
        return name if name and self.authenticator.stamp(name) == stamp else ""

    async def _finish(self, name: str, errors: dict[str, str], *, is_done: bool) -> None:
        page = await self.render_template(
            "reset-password.html",
            errors=errors,
            account=name,
            token=self.get_argument("token", ""),
            is_done=is_done,
        )
        self.finish(page)


def password_link_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the REST route of every authenticator."""
    path = r"/api/workbench/people/([^/]+)/password-link"
    return [(path, PasswordLinkApiHandler, {"get_workbench": get_workbench})]


def password_reset_handlers(authenticator: type, get_workbench: GetWorkbench) -> list[Route]:
    """Return the page, if ``authenticator`` has passwords of its own."""
    if not issubclass(authenticator, ApprovedSignUp):
        return []
    return [(r"/reset-password", PasswordResetHandler, {"get_workbench": get_workbench})]
