"""Ends the servers whose GPUs did nothing, and starts those anew without GPUs whose users chose so.

The lease is closed the way of all leases; the start goes through the hub's own REST API, as that of people in line.
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

log = logging.getLogger("workbench.idle")

RETRY_SECONDS = 1.0
TRIES = 60


class IdleRelease:
    """What becomes of idle leases, at the hub's REST API ``api``."""

    def __init__(self, workbench: Workbench, api: str) -> None:
        """Do nothing yet."""
        self._workbench = workbench
        self._api = api
        self._ending: set[str] = set()

    def begin(self, lease: Lease) -> None:
        """End ``lease`` beside everything else; called again for the same one it does nothing."""
        if lease.id not in self._ending:
            self._ending.add(lease.id)
            self._workbench.run_in_background(self._end(lease))

    async def _end(self, lease: Lease) -> None:
        try:
            minutes = self._workbench.settings.idle_minutes
            log.info("Ends %s of %s: idle for %d min", lease.id, lease.user, minutes)
            await release_until_gone(self._workbench, lease.id, Cause.IDLE)
        finally:
            self._ending.discard(lease.id)

    def go_on(self, lease: Lease) -> None:
        """Start the server of a closed ``lease`` without GPUs where it was idle and its user chose so.

        The hub that saw it end need not be the one that found it idle.
        """
        if lease.cause is Cause.IDLE and lease.when_idle is WhenIdle.GO_ON:
            self._workbench.run_in_background(self._go_on(lease))

    async def _go_on(self, lease: Lease) -> None:
        """Start the server without GPUs, unless somebody has started it meanwhile."""
        server = f"servers/{quote(lease.server, safe='')}" if lease.server else "server"
        url = URL(f"{self._api}/users/{quote(lease.user, safe='')}/{server}", encoded=True)
        options = {"release": lease.release, "gpus": 0, "when_idle": lease.when_idle.value}
        headers = {"Authorization": f"token {self._workbench.service_token}"}
        said = ""
        async with aiohttp.ClientSession(headers=headers) as session:
            for _ in range(TRIES):
                try:
                    if await self._workbench.controller.lease_of(lease.user, lease.server):
                        return
                    async with session.post(url, json={"user_options": options}) as answer:
                        if answer.status < HTTPStatus.BAD_REQUEST:
                            return
                        said = await answer.text()  # JupyterHub is still busy with its end
                except (aiohttp.ClientError, Unknown) as error:
                    said = str(error)
                await asyncio.sleep(RETRY_SECONDS)
        log.warning("The server of %s does not go on without GPUs: %s", lease.user, said)
