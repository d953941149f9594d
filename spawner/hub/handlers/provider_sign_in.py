"""Sign-in at a provider: what the workbench adds to every authenticator of the package ``oauthenticator``.

- A user whom the provider does not let in any more loses sessions, tokens, queue positions and servers.
- A provider that does not answer changes nothing: sessions and servers go on.
- A confirmation counts only if the provider says that it has just authenticated the user.
- Every failure is one sentence.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import jwt
from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.roles import assign_default_roles
from jupyterhub.user import User
from oauthenticator.oauth2 import OAuthenticator
from tornado import web
from tornado.httpclient import HTTPClientError
from tornado.httputil import url_concat
from traitlets import Unicode

from spawner.hub.handlers.api_base import GetWorkbench
from spawner.hub.handlers.provider_handlers import (
    ProviderCallbackHandler,
    ProviderLogInHandler,
    ProviderLogOutHandler,
)
from spawner.hub.openid import OpenIDProvider, ProviderSilent, is_silence
from spawner.hub.servers.revocation import Extent, Revocation, revoke
from spawner.ledger.trail import TrailAction, TrailEntry
from spawner.model import SettingsError, Unknown

log = logging.getLogger(__name__)

ACTOR = "(log-in provider)"
FRESH_SECONDS = 120
"""A log-in at the provider counts as a confirmation for this long: its redirects take seconds."""

# silences during one refresh: the package turns every error of a token request into "log in again"
_silences: ContextVar[list[ProviderSilent] | None] = ContextVar("silences", default=None)


class ProviderSignIn(OAuthenticator):  # type: ignore[misc]
    """An authenticator of ``oauthenticator`` with the workbench's rules; ``with_provider_rules`` mixes it in."""

    issuer = Unicode("", config=True, help="Issuer of an OpenID provider, for its addresses.")
    get_workbench: GetWorkbench

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401
        """Ask the provider nothing yet."""
        super().__init__(**kwargs)
        self._provider = OpenIDProvider(self.issuer) if self.issuer else None
        self._refreshes: dict[str, asyncio.Task[Any]] = {}
        self._unapproved: set[str] = set()

    def get_handlers(self, app: JupyterHub) -> list[tuple[Any, ...]]:
        """Return the routes; the groups of the settings exist from now on, so that they can have quotas."""
        if self.manage_groups:
            for name in sorted(self.allowed_groups | self.admin_groups):
                if orm.Group.find(app.db, name) is None:
                    app.db.add(orm.Group(name=name))
            app.db.commit()
        routes: list[tuple[Any, ...]] = super().get_handlers(app)
        return routes

    # --- the provider

    async def locate_provider(self) -> None:
        """Set the provider's addresses; raises ProviderSilent, or a 503 for a wrong issuer."""
        if self._provider is None:
            return
        try:
            found = await self._provider.endpoints()
        except SettingsError as error:
            log.error("provider=%s state=misconfigured reason=%s", self.issuer, error)  # noqa: TRY400 - one sentence
            raise web.HTTPError(HTTPStatus.SERVICE_UNAVAILABLE.value, "%s", str(error)) from error
        self.authorize_url, self.token_url = found.authorize, found.token
        self.userdata_url = found.userinfo

    async def httpfetch(self, url: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Ask the provider; raises ProviderSilent instead of a silence of any kind."""
        try:
            return await super().httpfetch(url, *args, **kwargs)
        except (HTTPClientError, OSError) as error:
            if not is_silence(error):
                raise
            silence = ProviderSilent("{0.scheme}://{0.netloc}".format(urlsplit(url)))
            if self._provider is not None:
                self._provider.forget()
            seen = _silences.get()
            if seen is not None:
                seen.append(silence)
            log.warning("provider=%s state=silent reason=%s", url.partition("?")[0], error)
            raise silence from error

    # --- log-in

    async def authenticate(self, handler: Any, data: Any = None, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return the user as the provider describes it; every other answer is one sentence."""
        await self.locate_provider()
        try:
            model = await super().authenticate(handler, data, **kwargs)
        except HTTPClientError as error:
            if error.code == HTTPStatus.BAD_REQUEST:
                raise web.HTTPError(
                    HTTPStatus.BAD_REQUEST.value, "This log-in took too long: log in again."
                ) from error
            raise web.HTTPError(
                HTTPStatus.BAD_GATEWAY.value,
                "%s",
                f"The log-in provider refused the workbench itself ({error.code}): an admin has to check client id, "
                "secret and scopes.",
            ) from error
        except ValueError as error:
            raise web.HTTPError(
                HTTPStatus.BAD_GATEWAY.value,
                "%s",
                f"The log-in provider sends no claim {self.username_claim!r}, which is to become the user name: "
                "an admin has to choose another one.",
            ) from error
        if not self.validate_username(model["name"]):
            raise web.HTTPError(
                HTTPStatus.FORBIDDEN.value,
                "%s",
                f"The log-in provider calls you {model['name'][:64]!r}, which cannot be a user name here: "
                "ask an admin.",
            )
        self._unapproved.discard(model["name"])
        return model

    async def proves_password(self, user: User) -> bool:
        """Return whether the provider says that it authenticated ``user`` just now, not by an older session."""
        state = await user.get_auth_state() or {}
        try:
            # the hub has the token from the provider itself, so the signature adds nothing
            claims = jwt.decode(
                state.get("id_token") or "",
                audience=self.client_id,
                options={"verify_signature": False, "verify_aud": True, "verify_exp": True},
            )
        except jwt.InvalidTokenError:
            return False
        at = claims.get("auth_time")
        return isinstance(at, int | float) and abs(time.time() - at) <= FRESH_SECONDS

    def confirmation_url(self, base_url: str, next_url: str) -> str:
        """Return the address at which the provider asks for the password again."""
        return str(url_concat(self.login_url(base_url), {"confirm": "yes", "next": next_url}))

    # --- the session goes on

    async def refresh_user(self, user: User, handler: Any = None, **_: Any) -> Any:  # noqa: ANN401
        """Return the user as the provider describes it now; one question at a time for each user.

        A provider takes each refresh token once: two requests at the same moment would end the session. False ends the
        session: the user has to log in again.
        """
        task = self._refreshes.get(user.name)
        if task is None:
            task = self._refreshes[user.name] = asyncio.ensure_future(self._refresh(user, handler))
            task.add_done_callback(lambda _: self._refreshes.pop(user.name, None))
        # a closed browser must not cancel the question of the others
        return await asyncio.shield(task)

    async def _refresh(self, user: User, handler: Any) -> Any:  # noqa: ANN401
        silences: list[ProviderSilent] = []
        _silences.set(silences)
        try:
            await self.locate_provider()
            model = await super().refresh_user(user, handler)
            is_allowed = isinstance(model, dict) and await self._may_log_in(user.name, model)
        except (ProviderSilent, HTTPClientError, web.HTTPError) as error:
            return _keep(user, error)
        if silences:
            return True
        if not isinstance(model, dict):
            return model
        if model["name"] != user.name:
            return False  # renamed at the provider: the next log-in is that of another user
        try:
            if not is_allowed:
                await self._shut_out(user)
                return False
            self._unapproved.discard(user.name)
            # stored before the next question, which needs the new token
            await user.save_auth_state(model["auth_state"])
            await self._record_changes(user, model)
        except Unknown as error:
            return _keep(user, error)
        return model

    async def run_post_auth_hook(self, handler: Any, auth_model: Any) -> Any:  # noqa: ANN401
        """Record what the log-in changes, before it does."""
        model = await super().run_post_auth_hook(handler, auth_model)
        user = handler.find_user(model["name"]) if model else None
        if user is not None:
            await self._record_changes(user, model)
        return model

    async def _record_changes(self, user: User, model: dict[str, Any]) -> None:
        """Write the changes of rights and groups to the audit trail; raises Unknown."""
        is_admin, groups = model.get("admin"), model.get("groups")
        if is_admin is not None and is_admin != user.admin:
            action = TrailAction.USER_ADMIN_CHANGED
            await self._record(user, action, {"admin": user.admin}, {"admin": is_admin})
        before = sorted(group.name for group in user.orm_user.groups)
        if self.manage_groups and groups is not None and before != sorted(groups):
            action = TrailAction.USER_GROUPS_CHANGED
            await self._record(user, action, {"groups": before}, {"groups": sorted(groups)})

    async def _record(
        self,
        user: User,
        action: TrailAction,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> None:
        workbench = self.get_workbench()
        entry = TrailEntry(workbench.clock(), ACTOR, action, f"user {user.name}", before, after)
        await asyncio.to_thread(workbench.ledger.record_entry, entry)

    def is_unapproved(self, name: str) -> bool:
        """Return whether the provider's last answer about ``name`` was that the user may not log in."""
        return name in self._unapproved

    async def _may_log_in(self, name: str, model: dict[str, Any]) -> bool:
        is_blocked = not await _maybe_await(self.check_blocked_users(name, model))
        return not is_blocked and bool(
            self.allow_all or await _maybe_await(self.check_allowed(name, model))
        )

    async def _shut_out(self, user: User) -> None:
        self._unapproved.add(user.name)
        await self._record(user, TrailAction.USER_UNAPPROVED)
        user.sync_groups([])
        user.admin = False
        assign_default_roles(user.db, entity=user)
        reason = "the log-in provider does not let you in any more"
        await revoke(self.get_workbench(), user, Revocation(Extent.ACCOUNT, ACTOR, reason))

    # --- log-out

    async def log_out_page(self, handler: Any, user: User) -> str:  # noqa: ANN401
        """Return the provider's log-out page, empty where it has none or is not known yet."""
        known = self._provider.known if self._provider is not None else None
        if known is None or not known.end_session:
            return ""
        state = await user.get_auth_state() or {}
        back = self.get_callback_url(handler).removesuffix("oauth_callback") + "login"
        values = {"client_id": self.client_id, "post_logout_redirect_uri": back}
        if state.get("id_token"):
            values["id_token_hint"] = state["id_token"]
        return str(url_concat(known.end_session, values))


def with_provider_rules(
    base: type[OAuthenticator], get_workbench: GetWorkbench
) -> type[OAuthenticator]:
    """Return ``base`` with the rules of this module; its name, and so the section of its traits, stays."""
    handlers = {
        name: type(mixin.__name__, (mixin, getattr(base, name)), {})
        for name, mixin in (
            ("login_handler", ProviderLogInHandler),
            ("callback_handler", ProviderCallbackHandler),
            ("logout_handler", ProviderLogOutHandler),
        )
    }
    members = {**handlers, "get_workbench": staticmethod(get_workbench)}
    return type(base.__name__, (ProviderSignIn, base), members)


def _keep(user: User, error: Exception) -> bool:
    """Return that the session goes on as it is."""
    log.warning("user=%s state=not-refreshed reason=%s", user.name, error)
    return True


async def _maybe_await(value: bool | Awaitable[bool]) -> bool:
    return await value if isinstance(value, Awaitable) else value
