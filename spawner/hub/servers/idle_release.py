"""Idle release: ends the leases of idle servers, and restarts a server without GPUs if its user chose that.

The lease is closed like any other. The restart is a request to the hub's REST API, as in ``resume_queue``.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from urllib.parse import quote

import aiohttp
from yarl import URL

from spawner.hub.servers.grant import release_until_gone
from spawner.hub.workbench import Workbench
from spawner.model import Cause, Lease, Unknown, WhenIdle

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
TRIES = 60


class IdleRelease:
    """Ends idle leases and restarts servers, at the hub's REST API ``api``."""

    def __init__(self, workbench: Workbench, api: str) -> None:
        """Prepare; ``begin`` and ``restart_without_gpus`` do the work."""
        self._workbench = workbench
        self._api = api
        self._ending: set[str] = set()

    def begin(self, lease: Lease) -> None:
        """End ``lease`` in the background; a second call for the same lease does nothing."""
        if lease.id not in self._ending:
            self._ending.add(lease.id)
            self._workbench.run_in_background(self._end(lease))

    async def _end(self, lease: Lease) -> None:
        try:
            minutes = self._workbench.settings.idle_minutes
            log.info(
                "lease=%s user=%s server=%r state=closing reason=idle minutes=%d",
                lease.id,
                lease.user,
                lease.server,
                minutes,
            )
            await release_until_gone(self._workbench, lease.id, Cause.IDLE)
        finally:
            self._ending.discard(lease.id)

    def restart_without_gpus(self, lease: Lease) -> None:
        """Start the server of a closed, idle ``lease`` without GPUs, if its user chose that.

        The lease itself records this choice, so a hub that started after the end can do it too.
        """
        if lease.cause is Cause.IDLE and lease.when_idle is WhenIdle.GO_ON:
            self._workbench.run_in_background(self._restart(lease))

    async def _restart(self, lease: Lease) -> None:
        """Start the server without GPUs, unless it has been started already."""
        server = f"servers/{quote(lease.server, safe='')}" if lease.server else "server"
        url = URL(f"{self._api}/users/{quote(lease.user, safe='')}/{server}", encoded=True)
        options = {"release": lease.release, "gpus": 0, "when_idle": lease.when_idle.value}
        headers = {"Authorization": f"token {self._workbench.service_token}"}
        reason = ""
        async with aiohttp.ClientSession(headers=headers) as session:
            for _ in range(TRIES):
                try:
                    if await self._workbench.controller.lease_of(lease.user, lease.server):
                        return
                    async with session.post(url, json={"user_options": options}) as answer:
                        if answer.status < HTTPStatus.BAD_REQUEST:
                            return
                        reason = await answer.text()  # JupyterHub may still be stopping it
                except (aiohttp.ClientError, Unknown) as error:
                    reason = str(error)
                await asyncio.sleep(RETRY_SECONDS)
        log.warning(
            "lease=%s user=%s server=%r state=not restarted without GPUs reason=%s",
            lease.id,
            lease.user,
            lease.server,
            reason,
        )
