"""The routes of the workbench's own pages, REST API and doors, before all of JupyterHub's.

Only the routes of an authenticator come before JupyterHub's own, whichever it is.
"""

from __future__ import annotations

from typing import Any

from jupyterhub import apihandlers
from jupyterhub.apihandlers.base import API404, APIHandler
from jupyterhub.apihandlers.groups import GroupAPIHandler
from jupyterhub.apihandlers.users import UserAPIHandler, UserServerAPIHandler
from jupyterhub.app import JupyterHub
from jupyterhub.auth import Authenticator

from spawner.hub.handlers.doors import ApiHandler, SpawnFormHandler, GetWorkbench, ServerApiHandler
from spawner.hub.handlers.gpus import gpu_handlers
from spawner.hub.handlers.idle import idle_handlers
from spawner.hub.handlers.lease import lease_handlers
from spawner.hub.handlers.queue import line_handlers
from spawner.hub.handlers.openapi import openapi_handlers
from spawner.hub.handlers.orders import order_handlers
from spawner.hub.handlers.people import GroupDoor, UserDoor
from spawner.hub.handlers.quotas import quota_handlers
from spawner.hub.handlers.subjects import forget_strangers
from spawner.hub.handlers.trail import trail_handlers
from spawner.hub.handlers.usage import usage_handlers

Route = tuple[str, type, dict[str, Any]]


def with_workbench_routes(base: type[Authenticator], get_workbench: GetWorkbench) -> type[Authenticator]:
    """Return ``base`` with the workbench's routes before its own and JupyterHub's."""

    class WithRoutes(base):  # type: ignore[misc]
        def get_handlers(self, app: JupyterHub) -> list[tuple[Any, ...]]:
            workbench = get_workbench()
            workbench.run_in_background(forget_strangers(workbench, app.db))
            return [*_routes(get_workbench), *super().get_handlers(app)]

    WithRoutes.__name__ = base.__name__
    return WithRoutes


def _routes(get_workbench: GetWorkbench) -> list[Route]:
    parts = {"get_workbench": get_workbench}
    doors: dict[type, type] = {
        UserServerAPIHandler: ServerApiHandler,
        UserAPIHandler: UserDoor,
        GroupAPIHandler: GroupDoor,
    }
    routes: list[Route] = [
        *line_handlers(get_workbench),
        *lease_handlers(get_workbench),
        *gpu_handlers(get_workbench),
        *usage_handlers(get_workbench),
        *idle_handlers(get_workbench),
        *order_handlers(get_workbench),
        *quota_handlers(get_workbench),
        *trail_handlers(get_workbench),
        *openapi_handlers(),
        (r"/spawn", SpawnFormHandler, parts),
        (r"/spawn/([^/]+)", SpawnFormHandler, parts),
        (r"/spawn/([^/]+)/([^/]+)", SpawnFormHandler, parts),
    ]
    for path, handler in apihandlers.default_handlers:
        if handler in doors:
            routes.append((path, doors[handler], parts))
        else:
            # the others answer browsers: how a server knows who is at its door
            is_rest = issubclass(handler, APIHandler)
            routes.append((path, _before(handler) if is_rest else handler, {}))
    # JupyterHub's own comes later, and leaves out the sentence
    return [*routes, (r"/api/(?!health$).*", _before(API404), {})]


def _before(handler: type) -> type:
    return type(handler.__name__, (handler, ApiHandler), {})
