"""Page headers: give every answer of the hub the headers that limit what a browser does with it.

Users' servers share the hub's origin unless they have domains of their own. A page of a user's server is then
"same-origin" to the hub's pages, and the browser itself keeps nothing apart. These rules keep such a page from
reading a page of the hub with the visitor's cookies, since every hub page holds an XSRF token:

* ``frame-ancestors 'none'``: no page holds a hub page in a frame.
* ``Cross-Origin-Opener-Policy``: a window opened on a hub page is out of the opener's reach. The proxy removes this
  header from the answers of users' servers, because two pages with the same policy share a window again.
* ``Sec-Fetch-Mode`` and ``Sec-Fetch-Dest`` mark a request of a script or an import, which has to send the XSRF token,
  to read a page too.
* The XSRF cookie is ``HttpOnly``: a script could otherwise read it after ``history.pushState("/hub/")``.

Browsers apply the second and the third rule by https only, and on ``localhost``. By http the password protects an
admin's orders alone, see ``confirmation``.

Scripts run by nonce. A Jinja extension puts it into the source of the templates, before any data is filled in: a
script that comes with the data has none.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

from jinja2 import Environment
from jinja2.ext import Extension
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers.base import BaseHandler
from tornado import web

from spawner.settings import Settings

Prepare = Callable[[BaseHandler], Awaitable[None]]

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Headers of every page and every REST answer."""
VERSION_HEADER = "X-JupyterHub-Version"


class ScriptNonces(Extension):
    """Gives each script in a template's source the nonce of the request."""

    def __init__(self, environment: Environment) -> None:
        """Register the extension."""
        super().__init__(environment)

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return ``source`` with a nonce in each script tag."""
        return re.sub(r"<script\b", '<script nonce="{{ csp_nonce }}"', source)


def set_page_headers(settings: Settings) -> None:
    """Install the headers and the check in the base of all of JupyterHub's handlers; a second call replaces the first.

    Call it after ``answer_unavailable``, which installs ``BaseHandler.prepare`` without the check.
    """
    forms = "'self'"
    if settings.user_domains:
        # a log-in ends with redirects to the user's own host
        scheme, _, host = settings.origin.partition("://")
        forms = f"'self' {scheme}://*.{host}"
    BaseHandler.content_security_policy = property(lambda handler: _page_policy(handler, forms))
    APIHandler.content_security_policy = property(_rest_policy)
    BaseHandler.set_default_headers = _set_default_headers
    BaseHandler.template_namespace = property(_template_namespace)
    BaseHandler.prepare = reject_scripts_without_token(BaseHandler.prepare)
    BaseHandler.write_error = _write_error
    BaseHandler.append_query_parameters = _append_query
    static: Any = web.StaticFileHandler
    static.set_default_headers = _set_static_headers


def reject_scripts_without_token(prepare: Prepare) -> Prepare:
    """Return ``prepare`` that refuses a script's request by cookie without the page's XSRF token."""

    async def prepare_and_check(handler: BaseHandler) -> None:
        await prepare(handler)
        if not handler._finished and is_unproven_script(handler):
            raise web.HTTPError(
                HTTPStatus.FORBIDDEN.value, "A script has to send the page's XSRF token."
            )

    return prepare_and_check


def is_unproven_script(handler: BaseHandler) -> bool:
    """Return whether a script reads the answer with its visitor's cookies and without the XSRF token of a page."""
    # an error may come before the user is known
    user = getattr(handler, "_jupyterhub_user", None)
    headers = handler.request.headers
    mode = headers.get("Sec-Fetch-Mode", "navigate")
    # an import names its own kind, such as "json"; without CORS a page reads no other answer than that of a fetch
    is_script = mode not in ("navigate", "websocket") and (
        mode != "no-cors" or headers.get("Sec-Fetch-Dest") == "empty"
    )
    if user is None or getattr(handler, "_token_authenticated", False) or not is_script:
        return False
    token = handler.get_argument("_xsrf", None) or headers.get("X-XSRFToken")
    return token is None or not secrets.compare_digest(token.encode(), handler.xsrf_token)


def nonce_of(handler: BaseHandler) -> str:
    """Return the nonce of this request, the same one at each call."""
    if not hasattr(handler, "_csp_nonce"):
        handler._csp_nonce = secrets.token_urlsafe(16)
    return str(handler._csp_nonce)


def _page_policy(handler: BaseHandler, forms: str) -> str:
    return "; ".join(
        [
            "default-src 'self'",
            # no 'self': files of users' servers are of the same origin
            f"script-src 'nonce-{nonce_of(handler)}' 'strict-dynamic'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "font-src 'self' data:",
            "object-src 'none'",
            "base-uri 'none'",
            f"form-action {forms}",
            "frame-ancestors 'none'",
            f"report-uri {handler.csp_report_uri}",
        ]
    )


def _rest_policy(handler: APIHandler) -> str:
    return f"default-src 'none'; frame-ancestors 'none'; report-uri {handler.csp_report_uri}"


def _set_default_headers(handler: BaseHandler) -> None:
    _JUPYTERHUB_HEADERS(handler)
    for name, value in HEADERS.items():
        handler.set_header(name, value)
    handler.clear_header("Server")
    # a server compares its version with the hub's; it does not come through the proxy
    if "X-Forwarded-For" in handler.request.headers:
        handler.clear_header(VERSION_HEADER)


def _write_error(handler: BaseHandler, status_code: int, **kwargs: Any) -> None:  # noqa: ANN401
    """Write JupyterHub's error page, but no page to a script without a token: the page holds one."""
    if isinstance(handler, APIHandler) or not is_unproven_script(handler):
        _JUPYTERHUB_WRITE_ERROR(handler, status_code, **kwargs)
        return
    handler.set_header("Content-Type", "text/plain")
    handler.finish(HTTPStatus(status_code).phrase)


def _append_query(handler: BaseHandler, url: str, exclude: Sequence[str] | None = None) -> str:
    """Append the request's query without its token: a server that the visitor opens next reads the address."""
    kept_out = [*(["next"] if exclude is None else exclude), "_xsrf"]
    return str(_JUPYTERHUB_APPEND(handler, url, exclude=kept_out))


def _set_static_headers(handler: web.StaticFileHandler) -> None:
    handler.clear_header("Server")
    handler.set_header("X-Content-Type-Options", "nosniff")


def _template_namespace(handler: BaseHandler) -> dict[str, Any]:
    return {**_JUPYTERHUB_NAMESPACE(handler), "csp_nonce": nonce_of(handler)}


_JUPYTERHUB_HEADERS = BaseHandler.set_default_headers
_JUPYTERHUB_APPEND = BaseHandler.append_query_parameters
_JUPYTERHUB_WRITE_ERROR = BaseHandler.write_error
_JUPYTERHUB_NAMESPACE = BaseHandler.template_namespace.fget
