"""Confirmation: asks for the password again before an order that only a right over other users allows.

A page of a user's server shares the hub's origin unless users have domains of their own. Such a page can send what
the hub's own pages send, so the origin of a request proves nothing. It does not know the password. Log-in and the
confirmation page therefore leave a signed cookie, bound to the user and the session; it is valid for 15 minutes.

Orders by API token need no confirmation: a token is a secret of its own. A request changes one's own things without
one too: starting one's server, extending one's lease, logging out.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.user import User
from tornado import web
from tornado.httputil import url_concat

MINUTES = 15
COOKIE = "workbench-confirmed"
HEADER = "X-Workbench-Confirm"
"""Header of a refusal, with the address of the confirmation page: the hub's scripts lead there."""
REFUSAL = "Confirm your password first: open {page}, then repeat the order."
UNPROVEN = (
    "The log-in provider did not prove that it has just asked for your password, so this is no confirmation. "
    "Give the order with an API token, or ask an admin of the host about WORKBENCH_USER_DOMAINS."
)
READING = ("GET", "HEAD", "OPTIONS")

# paths below the hub's prefix; {me} is the user's name
_OWN = (
    "/login",
    "/logout",
    "/confirm",
    "/security/csp-report",
    "/log-out-everywhere",
    "/reset-password",  # it needs the token of its link
    "/signup",
    "/change-password",  # it asks for the current password
    "/spawn",
    "/spawn/{me}",
    "/spawn/{me}/[^/]+",
    "/api/users/{me}/servers?(/[^/]*)?",
    "/api/users/{me}/activity",
    "/api/workbench/servers?/.+",
)
# pages whose purpose is an order: the password is asked for before the page, not after its form
_PAGES = ("/token", "/admin", "/people/.+", "/change-password/[^/]+")

Prepare = Callable[[BaseHandler], Awaitable[None]]
LogIn = Callable[..., Awaitable[User | None]]


def confirm_orders(of_every_user: frozenset[str]) -> None:
    """Install the check in the base of all of JupyterHub's handlers; ``of_every_user`` are scopes without an order.

    Call it after ``answer_unavailable``, which installs ``BaseHandler.prepare`` without the check.
    """
    BaseHandler.prepare = _with_confirmation(BaseHandler.prepare, of_every_user)
    BaseHandler.login_user = _with_cookie(_JUPYTERHUB_LOGIN)


def set_confirmed(handler: BaseHandler, user: User) -> None:
    """Leave the cookie: the user has just given a password to the hub."""
    handler._has_confirmed = True
    handler._set_cookie(
        COOKIE,
        _value(handler, user),
        path=handler.hub.base_url,
        # not Strict: after a log-in on a provider's page the browser sends no Strict cookie, and the hub would ask
        # again each time
        samesite="Lax",
        expires_days=None,
        max_age=MINUTES * 60,
    )


def has_confirmed(handler: BaseHandler) -> bool:
    """Return whether this very request left the cookie."""
    return bool(vars(handler).get("_has_confirmed"))


def can_prove(handler: BaseHandler) -> bool:
    """Return whether a log-in here can count as a confirmation at all."""
    authenticator = handler.authenticator
    has_form = not authenticator.login_service and not authenticator.auto_login
    # with domains of their own, users' pages cannot begin a log-in whose result they may use
    return has_form or bool(handler.subdomain_host) or hasattr(authenticator, "proves_password")


async def _is_proven(handler: BaseHandler, user: User) -> bool:
    prove = getattr(handler.authenticator, "proves_password", None)
    if prove is None or handler.subdomain_host:
        return can_prove(handler)
    return bool(await prove(user))


def is_confirmed(handler: BaseHandler) -> bool:
    """Return whether the user of the request gave the password within the last minutes, in this session."""
    value = handler.get_secure_cookie(COOKIE, max_age_days=MINUTES / 60 / 24)
    return value is not None and value.decode() == _value(handler, handler.current_user)


def needs_confirmation(handler: BaseHandler, of_every_user: frozenset[str]) -> bool:
    """Return whether this request is an order by cookie that a right over others may allow."""
    user = handler.current_user
    if not isinstance(user, User) or getattr(handler, "_token_authenticated", False):
        return False
    path = _decode(handler.request.path.removeprefix(handler.hub.base_url.rstrip("/")))
    if handler.request.method in READING:
        is_order = not isinstance(handler, APIHandler) and _matches(_PAGES, path, user.name)
    else:
        is_order = not _matches(_OWN, path, user.name)
    return is_order and has_rights_over_others(handler.expanded_scopes, of_every_user)


def has_rights_over_others(scopes: set[str], of_every_user: frozenset[str]) -> bool:
    """Return whether a scope changes more than the user's own things."""
    for scope in scopes:
        name, _, limit = scope.partition("!")
        is_own = limit.startswith(("user=", "server="))
        is_reading = name.startswith(("read:", "list:")) or ":read:" in name
        if not (is_own or is_reading or scope in of_every_user):
            return True
    return False


def _decode(path: str) -> str:
    # a slash within a name stays escaped: "admin%2Fserver" is a user, and no server of the admin
    return "/".join(unquote(part).replace("/", "%2F") for part in path.split("/"))


def _matches(patterns: tuple[str, ...], path: str, me: str) -> bool:
    return any(
        re.fullmatch(pattern.replace("{me}", re.escape(me)), path.rstrip("/"))
        for pattern in patterns
    )


def _value(handler: BaseHandler, user: User) -> str:
    return f"{user.cookie_id}:{handler.get_session_cookie()}"


def _with_confirmation(prepare: Prepare, of_every_user: frozenset[str]) -> Prepare:
    async def prepare_confirmed(handler: BaseHandler) -> None:
        await prepare(handler)
        if handler._finished or not needs_confirmation(handler, of_every_user):
            return
        if not is_confirmed(handler):
            _require_password(handler)

    return prepare_confirmed


def _require_password(handler: BaseHandler) -> None:
    """Lead a browser to the confirmation page; refuse a script's order, and name the page to it."""
    page = f"{handler.hub.base_url}confirm"
    if isinstance(handler, APIHandler):
        error = web.HTTPError(HTTPStatus.FORBIDDEN.value, REFUSAL.format(page=page))
        vars(error)["headers"] = {HEADER: page}
        raise error
    back = handler.request.uri
    if handler.request.method not in READING:
        referer = urlsplit(handler.request.headers.get("Referer", ""))
        is_of_hub = referer.path.startswith(handler.hub.base_url)
        back = referer._replace(scheme="", netloc="").geturl() if is_of_hub else ""
    handler.redirect(url_concat(page, {"next": back}), status=HTTPStatus.SEE_OTHER.value)


def _with_cookie(log_in: LogIn) -> LogIn:
    async def log_in_and_confirm(handler: BaseHandler, data: Any = None) -> User | None:  # noqa: ANN401
        user = await log_in(handler, data)
        if user is not None and await _is_proven(handler, user):
            set_confirmed(handler, user)
        return user

    return log_in_and_confirm


_JUPYTERHUB_LOGIN: LogIn = BaseHandler.login_user
