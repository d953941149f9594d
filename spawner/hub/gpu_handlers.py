"""Pages and REST API of the GPUs themselves: how each is, and the admin's word that one may be given again.

Everybody may look; only an admin, or a holder of ``custom:workbench:gpus``, returns a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from jupyterhub.handlers.base import BaseHandler
from tornado import web

from spawner.hub import scopes
from spawner.hub.doors import Door
from spawner.hub.gpu_view import see_gpus
from spawner.hub.handlers import require, viewer_of
from spawner.hub.refusal import refuse
from spawner.hub.workbench import Workbench
from spawner.model import Refused, Unknown


class GpusPage(BaseHandler):  # type: ignore[misc]
    """Shows an admin every GPU, with a way to return those in quarantine."""

    def initialize(self, get_workbench: Callable[[], Workbench]) -> None:
        """Take the parts from the configuration."""
        self._workbench = get_workbench()

    @web.authenticated
    async def get(self) -> None:
        """Render the page; it takes itself anew every few seconds."""
        require(self, scopes.GPUS, scopes.ADMIN)
        gpus = await see_gpus(self._workbench, viewer_of(self, self._workbench))
        self.finish(await self.render_template("gpus_page.html", view=gpus))


class GpusAPI(Door):
    """``GET /hub/api/workbench/gpus``."""

    def initialize(self, get_workbench: Callable[[], Workbench]) -> None:
        """Take the parts from the configuration."""
        self._workbench = get_workbench()

    async def get(self) -> None:
        """Answer every GPU."""
        require(self, scopes.READ_GPUS, scopes.ADMIN)
        gpus = await see_gpus(self._workbench, viewer_of(self, self._workbench))
        self.finish(json.dumps(gpus.as_json()))


class ReturnAPI(Door):
    """``POST /hub/api/workbench/gpus/<uuid>/return``."""

    def initialize(self, get_workbench: Callable[[], Workbench]) -> None:
        """Take the parts from the configuration."""
        self._workbench = get_workbench()

    async def post(self, gpu_uuid: str) -> None:
        """End the quarantine of the GPU, unless it still is ill."""
        require(self, scopes.GPUS, scopes.ADMIN)
        try:
            answer = await self._workbench.controller.health.return_gpu(
                gpu_uuid, self.current_user.name
            )
        except Unknown as error:
            raise web.HTTPError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"Nobody knows how this GPU is: {error}"
            ) from error
        if isinstance(answer, Refused):
            raise refuse(answer)
        self.set_status(HTTPStatus.NO_CONTENT)


def gpu_handlers(get_workbench: Callable[[], Workbench]) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the routes below the hub's prefix."""
    parts = {"get_workbench": get_workbench}
    return [
        ("/gpus", GpusPage, parts),
        ("/api/workbench/gpus", GpusAPI, parts),
        ("/api/workbench/gpus/([^/]+)/return", ReturnAPI, parts),
    ]
