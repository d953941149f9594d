"""Access: checks the scopes of a request, and names its user for the trail and for the views."""

from __future__ import annotations

from http import HTTPStatus

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers.base import BaseHandler
from tornado import web

from spawner.hub.identity import actor_name
from spawner.hub.views.queue import Viewer
from spawner.hub.workbench import Workbench

PAGE_REFUSAL = "Your account may not see this page. Ask an admin if you need it."


def require(handler: BaseHandler, scope: str, *instead: str) -> None:
    """Raise a 403 unless the request has ``scope`` or one of the scopes ``instead``."""
    if not handler.current_user:
        raise web.HTTPError(HTTPStatus.FORBIDDEN, "Missing or invalid credentials.")
    if not any(map(handler.has_scope, (scope, *instead))):
        needs = f"This needs the scope {scope.partition('!')[0]}."
        # a page names no scope: its reader chose none
        sentence = needs if isinstance(handler, APIHandler) else PAGE_REFUSAL
        raise web.HTTPError(HTTPStatus.FORBIDDEN, sentence)


def actor_of(handler: BaseHandler) -> str:
    """Return the audit trail's name for the user or service of the request."""
    return actor_name(handler.current_user)


def viewer_of(handler: BaseHandler, workbench: Workbench) -> Viewer:
    """Return the user of the request as the views know them."""
    is_admin = handler.has_scope("admin-ui")
    return Viewer(handler.current_user.name, workbench.settings.show_queue_names or is_admin)
