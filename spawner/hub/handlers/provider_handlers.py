"""Handlers of the log-in at a provider: they lead to it, take its answer, and lead to its log-out.

``provider_sign_in`` mixes them into the handlers of an authenticator of the package ``oauthenticator``.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from oauthenticator.oauth2 import (
    OAuthCallbackHandler,
    OAuthLoginHandler,
    OAuthLogoutHandler,
    _deserialize_state,
    _serialize_state,
)
from tornado import web

from spawner.hub.confirmation import UNPROVEN, has_confirmed

NOT_LET_IN = "Your account at the log-in provider may not use this workbench: ask an admin to add you or your group."


class ProviderLogInHandler(OAuthLoginHandler):  # type: ignore[misc]
    """``/oauth_login``: leads to the provider; with ``confirm`` the provider has to ask for the password."""

    async def get(self) -> None:
        """Redirect to the provider, if it answers."""
        await self.authenticator.locate_provider()
        super().get()

    def authorize_redirect(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Ask the provider to authenticate the user again, for a confirmation."""
        if self._is_confirmation:
            kwargs["extra_params"] = {**kwargs["extra_params"], "prompt": "login", "max_age": "0"}
        super().authorize_redirect(*args, **kwargs)

    def set_state_cookie(self, state_cookie_value: str) -> None:
        """Keep the purpose of the log-in in the signed cookie."""
        state = {**_deserialize_state(state_cookie_value), "confirm": self._is_confirmation}
        super().set_state_cookie(_serialize_state(state))

    @property
    def _is_confirmation(self) -> bool:
        return bool(self.get_argument("confirm", "") == "yes")


class ProviderCallbackHandler(OAuthCallbackHandler):  # type: ignore[misc]
    """``/oauth_callback``: the provider's answer."""

    async def get(self) -> None:
        """Log the user in, and refuse a confirmation that the provider does not prove."""
        self.check_arguments()
        user = await self.login_user()
        if user is None:
            raise web.HTTPError(HTTPStatus.FORBIDDEN.value, NOT_LET_IN)
        is_confirmation = _deserialize_state(self.get_state_cookie()).get("confirm")
        if is_confirmation and not has_confirmed(self):
            raise web.HTTPError(HTTPStatus.FORBIDDEN.value, UNPROVEN)
        self.redirect(self.get_next_url(user))

    def check_error(self) -> None:
        """Raise the provider's refusal as one sentence."""
        error = self.get_argument("error", "")
        if error:
            said = " ".join(self.get_argument("error_description", error).split())[:200]
            raise web.HTTPError(
                HTTPStatus.FORBIDDEN.value,
                "%s",
                f"The log-in provider refused the log-in ({said.rstrip('.')}): log in again, or ask its admin.",
            )

    def check_code(self) -> None:
        """Raise a sentence for an address that was typed or kept."""
        self._in_a_sentence(super().check_code)

    def check_state(self) -> None:
        """Raise a sentence for a log-in of another browser, or of another day."""
        self._in_a_sentence(super().check_state)

    def _in_a_sentence(self, check: Callable[[], None]) -> None:
        try:
            check()
        except web.HTTPError as error:
            raise web.HTTPError(
                HTTPStatus.BAD_REQUEST.value,
                "This log-in was not begun in this browser, or too long ago: log in again.",
            ) from error


class ProviderLogOutHandler(OAuthLogoutHandler):  # type: ignore[misc]
    """``/logout``: ends the session here, then the one at the provider."""

    _provider_page = ""

    async def default_handle_logout(self) -> None:
        """End the session; the provider's page is looked up before, because it needs the user."""
        if self.current_user:
            self._provider_page = await self.authenticator.log_out_page(self, self.current_user)
        await super().default_handle_logout()

    async def render_logout_page(self) -> None:
        """Lead to the provider's log-out, which leads back."""
        if self._provider_page:
            self.redirect(self._provider_page)
        else:
            await super().render_logout_page()
