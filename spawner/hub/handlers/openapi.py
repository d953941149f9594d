"""OpenAPI document: serves ``openapi.json``, the description of the workbench's own REST API.

Every user and service with a token may read it. ``spawner.hub.handlers.openapi_document`` derives it from the code.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tornado import web

from spawner.hub.handlers.api_base import ApiHandler, Route
from spawner.hub.handlers.operation import operation

DOCUMENT = Path(__file__).with_name("openapi.json")


class OpenApiHandler(ApiHandler):
    """``GET /hub/api/workbench/openapi.json``."""

    @operation(
        "readDocument",
        "Read this document.",
        scope=None,
        answers="This document.",
        answer=dict[str, Any],
    )
    async def get(self) -> None:
        """Answer the document."""
        if not self.current_user:
            raise web.HTTPError(HTTPStatus.FORBIDDEN, "Missing or invalid credentials.")
        document = json.loads(DOCUMENT.read_text())
        self.finish({**document, "servers": [{"url": f"{self.hub.base_url}api"}]})


def openapi_handlers() -> list[Route]:
    """Return the route, below the hub's prefix."""
    return [("/api/workbench/openapi[.]json", OpenApiHandler, {})]
