"""Page, live stream and REST API of the GPUs: their health and use, and their release from quarantine.

Every user may read; only an admin, or a holder of ``custom:workbench:gpus``, releases a GPU.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jupyterhub.handlers.static import CacheControlStaticFilesHandler
from jupyterhub.user import User
from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import actor_of, require, viewer_of
from spawner.hub.handlers.api_base import (
    GetWorkbench,
    Route,
    WorkbenchApiHandler,
    WorkbenchHandler,
)
from spawner.hub.handlers.feed import Feed
from spawner.hub.handlers.operation import operation
from spawner.hub.handlers.stream import GpuStream
from spawner.hub.refusal import to_http_error
from spawner.hub.schema.gpus import DevicesJson
from spawner.hub.views.gpu_map import EMPTY_OWN, build_map, build_own_leases, group_tiles
from spawner.hub.views.gpus import build_gpus_view
from spawner.hub.views.week import build_week_view
from spawner.model import Refused

STATIC = Path(__file__).parents[1] / "static"
STATIC_VERSION = hashlib.sha256(
    b"".join(p.read_bytes() for p in sorted(STATIC.iterdir()))
).hexdigest()[:12]
"""Changes with the files, so that a browser may cache each version without a limit."""
ACTION_SCOPES = {"gpus": scopes.GPUS, "queue": scopes.QUEUE, "leases": scopes.END}
"""The admin actions of the page, each with its scope."""


class GpusPage(WorkbenchHandler):
    """``/hub/gpus``: shows the map of GPUs, the queue and one's own leases; admins act on them there."""

    # Tornado calls it with the options of the route
    def initialize(  # type: ignore[override]
        self, get_workbench: GetWorkbench, get_feed: Callable[[], Feed]
    ) -> None:
        """Keep the workbench and its feed."""
        super().initialize(get_workbench)
        self._feed = get_feed()

    @web.authenticated
    async def get(self) -> None:
        """Render the page; the live stream keeps it current."""
        require(self, scopes.READ_GPUS, scopes.ADMIN)
        viewer = viewer_of(self, self.workbench)
        snapshot = await self._feed.snapshot()
        own = build_own_leases(snapshot).get(viewer.name, EMPTY_OWN)
        may = {
            action: self.has_scope(scope) or self.has_scope(scopes.ADMIN)
            for action, scope in ACTION_SCOPES.items()
        }
        gpu_map = build_map(snapshot, names=viewer.sees_names)
        page = await self.render_template(
            "gpus_page.html",
            map=gpu_map,
            groups=group_tiles(gpu_map),
            own=own,
            may=may,
            week=await build_week_view(self.workbench, self.current_user)
            if isinstance(self.current_user, User)
            else None,
            version=STATIC_VERSION,
        )
        self.finish(page)


class GpusHandler(WorkbenchApiHandler):
    """``GET /hub/api/workbench/gpus``."""

    @operation(
        "readGpus",
        "Read every GPU, its holder and its health.",
        scope=scopes.READ_GPUS,
        answers="The GPUs.",
        answer=DevicesJson,
    )
    async def get(self) -> None:
        """Answer every GPU."""
        require(self, scopes.READ_GPUS, scopes.ADMIN)
        gpus = await build_gpus_view(self.workbench, viewer_of(self, self.workbench))
        self.finish(json.dumps(gpus.as_json()))


class GpuReleaseHandler(WorkbenchApiHandler):
    """``POST /hub/api/workbench/gpus/<uuid>/release``."""

    @operation(
        "releaseGpu",
        "Release a GPU from quarantine.",
        scope=scopes.GPUS,
        answers="New leases may hold it.",
        status=HTTPStatus.NO_CONTENT,
        refusals=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    )
    async def post(self, gpu_uuid: str) -> None:
        """End the quarantine of the GPU, unless it is still unhealthy."""
        require(self, scopes.GPUS, scopes.ADMIN)
        answer = await self.workbench.controller.health.release_gpu(gpu_uuid, actor_of(self))
        if isinstance(answer, Refused):
            raise to_http_error(answer)
        self.set_status(HTTPStatus.NO_CONTENT)


def gpu_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes, below the hub's prefix."""
    options: dict[str, Any] = {"get_workbench": get_workbench}
    live = {**options, "get_feed": functools.cache(lambda: Feed(get_workbench()))}
    return [
        ("/gpus", GpusPage, live),
        ("/workbench/static/(.*)", CacheControlStaticFilesHandler, {"path": str(STATIC)}),
        ("/api/workbench/gpus/stream", GpuStream, live),
        ("/api/workbench/gpus", GpusHandler, options),
        ("/api/workbench/gpus/([^/]+)/release", GpuReleaseHandler, options),
    ]
