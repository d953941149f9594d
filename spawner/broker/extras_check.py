"""Extras check: refuses a lease whose extras are outside the schema, the bounds, or the folders that the bounds name.

The hub checks the same at the admission; a hub that was broken into does not.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from spawner.broker.engine import Engine
from spawner.broker.errors import BrokerError
from spawner.broker.folders import explain_unsafe_folder
from spawner.model import ExtrasError, Lease
from spawner.policy.bounds import Bounds, explain_excess, is_own_volume, overlaps
from spawner.policy.container import ContainerLimits
from spawner.policy.extras import parse_extras


class ExtrasCheck:
    """The bounds of one instance; the folders of the bounds are below ``host``."""

    def __init__(
        self, engine: Engine, instance: str, limits: ContainerLimits, bounds: Bounds, host: Path
    ) -> None:
        """Take the dependencies; no request is sent yet."""
        self._engine = engine
        self._instance = instance
        self._limits = limits
        self._bounds = bounds
        self._host = host

    async def __call__(self, lease: Lease) -> None:
        """Refuse a lease whose extras are outside the schema or the bounds, or whose folders lead elsewhere."""
        try:
            extras = parse_extras(lease.extras)
        except ExtrasError as error:
            raise BrokerError(403, f"The broker refuses this lease: {error}.") from error
        why = explain_excess(extras, self._bounds, self._limits)
        folders = [mount.source for mount in extras.mounts if mount.is_folder]
        for mount in extras.mounts:
            if why is None and not mount.is_folder and is_own_volume(mount.source, self._instance):
                why = f"the volume {mount.source} is the workbench's own"
        for folder in folders:
            why = why or await asyncio.to_thread(
                explain_unsafe_folder, folder, self._bounds.folders, self._host
            )
        if why is None and folders:
            why = await self._explain_docker_folder(folders)
        if why is not None:
            raise BrokerError(403, f"The broker refuses this lease: {why}.")

    async def _explain_docker_folder(self, folders: list[str]) -> str | None:
        reply = await self._engine.request("GET", "info")
        root = reply.parse().get("DockerRootDir") if reply.status == 200 else None
        if not isinstance(root, str):
            raise BrokerError(503, "Docker did not name its own folder, so no folder is mounted.")
        return next(
            (f"{folder} is Docker's own" for folder in folders if overlaps(folder, root)), None
        )
