"""Confirmation page: takes the password of a user who is logged in, before an order over others.

An authenticator without a password form asks at its provider: the page leads to its log-in, which has to ask for the
password again.
"""

from __future__ import annotations

from http import HTTPStatus

from tornado import web
from tornado.httputil import url_concat

from spawner.hub.confirmation import MINUTES, UNPROVEN, can_prove, set_confirmed
from spawner.hub.handlers.accounts import AccountHandler
from spawner.hub.handlers.api_base import GetWorkbench, Route
from spawner.ledger.trail import TrailAction


class ConfirmPage(AccountHandler):
    """``/hub/confirm``: asks for the password and leads back to ``next``."""

    @web.authenticated
    async def get(self) -> None:
        """Render the form."""
        await self._render("")

    @web.authenticated
    async def post(self) -> None:
        """Check the password as a log-in does, and leave the cookie."""
        user = self.current_user
        password = self.get_body_argument("password", "", strip=False)
        authenticated = None
        if not self._provider_url:
            authenticated = await self.authenticate({"username": user.name, "password": password})
        if authenticated is None or authenticated["name"] != user.name:
            self.set_status(HTTPStatus.FORBIDDEN.value)
            await self._render("The password is not correct: type it again.")
            return
        await self.record(TrailAction.USER_CONFIRMED, user.name)
        set_confirmed(self, user)
        self.redirect(self._next_url)

    async def _render(self, error: str) -> None:
        page = await self.render_template(
            "confirm.html",
            error=error,
            minutes=MINUTES,
            next=self._next_url,
            provider_url=self._provider_url,
            provider=self.authenticator.login_service,
            unproven="" if can_prove(self) else UNPROVEN,
        )
        self.finish(page)

    @property
    def _next_url(self) -> str:
        asked = self._validate_next_url(self.get_argument("next", ""))
        return asked or f"{self.hub.base_url}home"

    @property
    def _provider_url(self) -> str:
        """The log-in of the authenticator's provider; empty where the hub itself takes passwords."""
        if not self.authenticator.login_service:
            return ""
        confirmation_url = getattr(self.authenticator, "confirmation_url", None)
        if confirmation_url is not None:
            return str(confirmation_url(self.hub.base_url, self._next_url))
        url = self.authenticator.login_url(self.hub.base_url)
        return str(url_concat(url, {"next": self._next_url}))


def confirm_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the route, below the hub's prefix."""
    return [("/confirm", ConfirmPage, {"get_workbench": get_workbench})]
