"""The workbench's REST API in its own words, for programs: ``openapi.json`` as it stands beside this file.

Whoever has a token may read it.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from tornado import web

from spawner.hub.handlers.doors import ApiHandler

DOCUMENT = Path(__file__).with_name("openapi.json")


class OpenAPI(ApiHandler):
    """``GET /hub/api/workbench/openapi.json``."""

    async def get(self) -> None:
        """Answer the document."""
        if not self.current_user:
            raise web.HTTPError(HTTPStatus.FORBIDDEN, "Missing or invalid credentials.")
        self.finish(DOCUMENT.read_text())


def openapi_handlers() -> list[tuple[str, type, dict[str, object]]]:
    """Return the route below the hub's prefix."""
    return [("/api/workbench/openapi[.]json", OpenAPI, {})]
