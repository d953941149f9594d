"""Page and REST API of the queue: which leases hold GPUs, and which requests wait."""

from __future__ import annotations

import json

from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import require, viewer_of
from spawner.hub.handlers.api_base import (
    GetWorkbench,
    Route,
    WorkbenchApiHandler,
    WorkbenchHandler,
)
from spawner.hub.handlers.operation import operation
from spawner.hub.schema.leases import QueueJson
from spawner.hub.views.queue import build_queue_view


class QueuePage(WorkbenchHandler):
    """``/hub/queue``: shows the leases that hold GPUs and the requests that wait."""

    @web.authenticated
    async def get(self) -> None:
        """Render the page; its script reloads it every few seconds."""
        require(self, scopes.READ_QUEUE)
        queue = await build_queue_view(self.workbench, viewer_of(self, self.workbench))
        self.finish(await self.render_template("queue.html", queue=queue))


class QueueApiHandler(WorkbenchApiHandler):
    """``GET /hub/api/workbench/queue``."""

    @operation(
        "readQueue",
        "Read the queue: leases that hold GPUs and requests that wait.",
        scope=scopes.READ_QUEUE,
        answers="The queue.",
        answer=QueueJson,
    )
    async def get(self) -> None:
        """Answer the whole queue."""
        require(self, scopes.READ_QUEUE)
        queue = await build_queue_view(self.workbench, viewer_of(self, self.workbench))
        self.finish(json.dumps(queue.as_json()))


def queue_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes, below the hub's prefix."""
    options = {"get_workbench": get_workbench}
    return [("/queue", QueuePage, options), ("/api/workbench/queue", QueueApiHandler, options)]
