"""Routes: put the workbench's pages and REST API, and its versions of JupyterHub's handlers, before JupyterHub's own.

They come with the authenticator, whose routes are the only ones that precede JupyterHub's.
"""

from __future__ import annotations

from typing import Any

from jupyterhub import apihandlers
from jupyterhub.apihandlers.auth import OAuthAuthorizeHandler, TokenAPIHandler
from jupyterhub.apihandlers.base import API404, APIHandler
from jupyterhub.apihandlers.groups import (
    GroupAPIHandler,
    GroupListAPIHandler,
    GroupUsersAPIHandler,
)
from jupyterhub.apihandlers.users import UserAPIHandler, UserServerAPIHandler
from jupyterhub.app import JupyterHub
from jupyterhub.auth import Authenticator

from spawner.hub.handlers.accounts import account_handlers, password_handlers
from spawner.hub.handlers.admin_actions import admin_action_handlers
from spawner.hub.handlers.api_base import ApiHandler, GetWorkbench, Route
from spawner.hub.handlers.confirm import confirm_handlers
from spawner.hub.handlers.consent import ConsentPage
from spawner.hub.handlers.gpus import gpu_handlers
from spawner.hub.handlers.groups import (
    GroupApiHandler,
    GroupListApiHandler,
    GroupUsersApiHandler,
)
from spawner.hub.handlers.health import health_handlers
from spawner.hub.handlers.help import help_handlers
from spawner.hub.handlers.homes import home_handlers
from spawner.hub.handlers.idle import idle_handlers
from spawner.hub.handlers.lease import lease_handlers
from spawner.hub.handlers.openapi import openapi_handlers
from spawner.hub.handlers.password_reset import (
    password_link_handlers,
    password_reset_handlers,
)
from spawner.hub.handlers.people import people_handlers
from spawner.hub.handlers.queue import queue_handlers
from spawner.hub.handlers.quotas import quota_handlers
from spawner.hub.handlers.sign_up import sign_up_handlers
from spawner.hub.handlers.spawn_handlers import ServerApiHandler, SpawnFormHandler
from spawner.hub.handlers.subjects import delete_stale_rows
from spawner.hub.handlers.tokens import token_handlers
from spawner.hub.handlers.trail import trail_handlers
from spawner.hub.handlers.usage import usage_handlers
from spawner.hub.handlers.users import TokenApiHandler, UserApiHandler


def with_workbench_routes(
    base: type[Authenticator], get_workbench: GetWorkbench
) -> type[Authenticator]:
    """Return ``base`` with the workbench's routes before its own and JupyterHub's."""

    class WithRoutes(base):  # type: ignore[misc]
        def get_handlers(self, app: JupyterHub) -> list[tuple[Any, ...]]:
            workbench = get_workbench()
            workbench.run_in_background(delete_stale_rows(workbench, app.db))
            return [
                *sign_up_handlers(base, get_workbench),
                *password_handlers(base, get_workbench),
                *password_reset_handlers(base, get_workbench),
                *build_routes(get_workbench),
                *super().get_handlers(app),
            ]

    WithRoutes.__name__ = base.__name__
    return WithRoutes


def build_routes(get_workbench: GetWorkbench) -> list[Route]:
    """Return all routes that precede JupyterHub's own, in order."""
    options = {"get_workbench": get_workbench}
    replacements: dict[type, type] = {
        UserServerAPIHandler: ServerApiHandler,
        UserAPIHandler: UserApiHandler,
        GroupAPIHandler: GroupApiHandler,
        GroupListAPIHandler: GroupListApiHandler,
        GroupUsersAPIHandler: GroupUsersApiHandler,
        TokenAPIHandler: TokenApiHandler,
        OAuthAuthorizeHandler: ConsentPage,
    }
    routes: list[Route] = [
        *queue_handlers(get_workbench),
        *lease_handlers(get_workbench),
        *gpu_handlers(get_workbench),
        *usage_handlers(get_workbench),
        *idle_handlers(get_workbench),
        *admin_action_handlers(get_workbench),
        *home_handlers(get_workbench),
        *health_handlers(get_workbench),
        *quota_handlers(get_workbench),
        *trail_handlers(get_workbench),
        *people_handlers(get_workbench),
        *token_handlers(),
        *password_link_handlers(get_workbench),
        *openapi_handlers(),
        *help_handlers(),
        *account_handlers(get_workbench),
        *confirm_handlers(get_workbench),
        (r"/spawn", SpawnFormHandler, options),
        (r"/spawn/([^/]+)", SpawnFormHandler, options),
        (r"/spawn/([^/]+)/([^/]+)", SpawnFormHandler, options),
    ]
    for path, handler in apihandlers.default_handlers:
        if handler in replacements:
            routes.append((path, replacements[handler], options))
        else:
            # the others answer browsers: the OAuth pages by which a server identifies its visitors
            is_rest = issubclass(handler, APIHandler)
            routes.append((path, _with_api_base(handler) if is_rest else handler, {}))
    # JupyterHub's own comes later and has no sentence
    return [*routes, (r"/api/(?!health$).*", _with_api_base(API404), {})]


def _with_api_base(handler: type) -> type:
    return type(handler.__name__, (handler, ApiHandler), {})
