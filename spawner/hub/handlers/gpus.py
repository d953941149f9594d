"""Page, stream and REST API of the GPUs themselves: how each is, and the admin's word that one may be given again.

Everybody may look; only an admin, or a holder of ``custom:workbench:gpus``, returns a GPU.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.static import CacheControlStaticFilesHandler
from jupyterhub.user import User
from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import actor_of, require, viewer_of
from spawner.hub.handlers.doors import ApiHandler
from spawner.hub.handlers.feed import Feed
from spawner.hub.handlers.stream import GpuStream
from spawner.hub.refusal import to_http_error
from spawner.hub.views.gpu_map import EMPTY_OWN, build_map, build_own_leases, group_tiles
from spawner.hub.views.gpus import build_gpus_view
from spawner.hub.views.week import build_week_view
from spawner.hub.workbench import Workbench
from spawner.model import Refused, Unknown

STATIC = Path(__file__).parents[1] / "static"
STATIC_VERSION = hashlib.sha256(
    b"".join(p.read_bytes() for p in sorted(STATIC.iterdir()))
).hexdigest()[:12]
"""Changes with the files, so that browsers keep each for as long as it is the one."""
ORDERS = {"gpus": scopes.GPUS, "line": scopes.MOVE, "leases": scopes.END}
"""What an admin may order on the page, and the scope for it."""


class GpusPage(BaseHandler):  # type: ignore[misc]
    """Shows the map: every GPU, the line, and what is one's own; admins give their orders there."""

    def initialize(
        self, get_workbench: Callable[[], Workbench], get_feed: Callable[[], Feed]
    ) -> None:
        """Take the parts from the configuration."""
        self._workbench = get_workbench()
        self._feed = get_feed()

    @web.authenticated
    async def get(self) -> None:
        """Render the page as it is now; its stream keeps it so."""
        require(self, scopes.READ_GPUS, scopes.ADMIN)
        viewer = viewer_of(self, self._workbench)
        try:
            seen = await self._feed.look()
        except Unknown as error:
            raise web.HTTPError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
        own = build_own_leases(seen).get(viewer.name, EMPTY_OWN)
        may = {
            order: self.has_scope(scope) or self.has_scope(scopes.ADMIN)
            for order, scope in ORDERS.items()
        }
        told = build_map(seen, names=viewer.sees_names)
        page = await self.render_template(
            "gpus_page.html",
            map=told,
            groups=group_tiles(told),
            own=own,
            may=may,
            week=await build_week_view(self._workbench, self.current_user)
            if isinstance(self.current_user, User)
            else None,
            version=STATIC_VERSION,
        )
        self.finish(page)


class GpusAPI(ApiHandler):
    """``GET /hub/api/workbench/gpus``."""

    def initialize(self, get_workbench: Callable[[], Workbench]) -> None:
        """Take the parts from the configuration."""
        self._workbench = get_workbench()

    async def get(self) -> None:
        """Answer every GPU."""
        require(self, scopes.READ_GPUS, scopes.ADMIN)
        gpus = await build_gpus_view(self._workbench, viewer_of(self, self._workbench))
        self.finish(json.dumps(gpus.as_json()))


class ReturnAPI(ApiHandler):
    """``POST /hub/api/workbench/gpus/<uuid>/return``."""

    def initialize(self, get_workbench: Callable[[], Workbench]) -> None:
        """Take the parts from the configuration."""
        self._workbench = get_workbench()

    async def post(self, gpu_uuid: str) -> None:
        """End the quarantine of the GPU, unless it still is ill."""
        require(self, scopes.GPUS, scopes.ADMIN)
        try:
            answer = await self._workbench.controller.health.release_gpu(gpu_uuid, actor_of(self))
        except Unknown as error:
            raise web.HTTPError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"Nobody knows how this GPU is: {error}"
            ) from error
        if isinstance(answer, Refused):
            raise to_http_error(answer)
        self.set_status(HTTPStatus.NO_CONTENT)


def gpu_handlers(get_workbench: Callable[[], Workbench]) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the routes below the hub's prefix."""
    parts: dict[str, Any] = {"get_workbench": get_workbench}
    live = {**parts, "get_feed": functools.cache(lambda: Feed(get_workbench()))}
    return [
        ("/gpus", GpusPage, live),
        ("/workbench/static/(.*)", CacheControlStaticFilesHandler, {"path": str(STATIC)}),
        ("/api/workbench/gpus/stream", GpuStream, live),
        ("/api/workbench/gpus", GpusAPI, parts),
        ("/api/workbench/gpus/([^/]+)/return", ReturnAPI, parts),
    ]
