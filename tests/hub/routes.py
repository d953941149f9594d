"""Routes: the workbench's own REST handlers, as the hub registers them."""

import re

from tornado.web import RequestHandler

from spawner.hub.handlers.routes import build_routes

METHODS = ("get", "post", "put", "patch", "delete")
PREFIX = "/api"


def own_routes() -> list[tuple[re.Pattern[str], type]]:
    """Return the workbench's own REST routes."""
    routes = build_routes(lambda: None)  # type: ignore[arg-type, return-value]
    return [
        (re.compile(f"{route[0]}$"), route[1])
        for route in routes
        if route[0].startswith(f"{PREFIX}/workbench")
    ]


def answers(handler: type, method: str) -> bool:
    return getattr(handler, method) is not getattr(RequestHandler, method)
