"""Page and REST API of the line: who holds the GPUs, and who waits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from jupyterhub.handlers.base import BaseHandler
from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import require, viewer_of
from spawner.hub.handlers.doors import ApiHandler
from spawner.hub.views.queue import build_queue_view
from spawner.hub.workbench import Workbench


class LinePage(BaseHandler):  # type: ignore[misc]
    """Shows who holds GPUs and who waits."""

    def initialize(self, get_workbench: Callable[[], Workbench]) -> None:
        """Take the parts from the configuration."""
        self._workbench = get_workbench()

    @web.authenticated
    async def get(self) -> None:
        """Render the page; it takes itself anew every few seconds."""
        require(self, scopes.READ_LINE)
        line = await build_queue_view(self._workbench, viewer_of(self, self._workbench))
        self.finish(await self.render_template("queue.html", line=line))


class LineAPI(ApiHandler):
    """``GET /hub/api/workbench/line``."""

    def initialize(self, get_workbench: Callable[[], Workbench]) -> None:
        """Take the parts from the configuration."""
        self._workbench = get_workbench()

    async def get(self) -> None:
        """Answer the whole line."""
        require(self, scopes.READ_LINE)
        line = await build_queue_view(self._workbench, viewer_of(self, self._workbench))
        self.finish(json.dumps(line.as_json()))


def line_handlers(get_workbench: Callable[[], Workbench]) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the routes below the hub's prefix."""
    parts = {"get_workbench": get_workbench}
    return [("/line", LinePage, parts), ("/api/workbench/line", LineAPI, parts)]
