"""Resume queue: restarts the pending spawns of waiting leases after a restart of the hub, by the hub's REST API.

The ledger keeps the positions. The service that sends the requests may only start servers.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from urllib.parse import quote

import aiohttp
from yarl import URL

from spawner.controller import Controller
from spawner.hub.workbench import Workbench
from spawner.model import Cause, Lease, Unknown

log = logging.getLogger(__name__)

SERVICE = "queue"
SERVICE_SCOPES = ["start:servers"]

MAX_CONCURRENT_STARTS = 8
"""Each start takes the hub some 20 ms of its event loop; page requests must get their turn between them."""
READY_SECONDS = 0.2
RETRY_SECONDS = 1.0
TRIES = 60


async def resume_queue(workbench: Workbench, api: str) -> None:
    """After the first reconcile, start the server of every waiting lease, at the hub's REST API ``api``.

    A lease that cannot be started any more, such as one of a deleted user, leaves the queue.
    """
    controller = workbench.controller
    leases = await _get_unattended(controller)
    start_semaphore = asyncio.Semaphore(MAX_CONCURRENT_STARTS)
    headers = {"Authorization": f"token {workbench.service_token}"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def resume(lease: Lease) -> None:
            async with start_semaphore:
                refusal = await _start(session, api, controller, lease)
            if refusal is not None:
                log.warning(
                    "lease=%s user=%s state=closing reason=%s", lease.id, lease.user, refusal
                )
                await controller.release(lease.id, Cause.FAILED)

        await asyncio.gather(*(resume(lease) for lease in leases))
    if leases:
        log.info("queue state=resumed leases=%d", len(leases))


async def _get_unattended(controller: Controller) -> tuple[Lease, ...]:
    while True:
        if controller.is_ready:
            try:
                return await controller.leases_without_spawn()
            except Unknown as error:
                log.warning("queue state=unknown reason=%s", error)
        await asyncio.sleep(READY_SECONDS)


async def _start(
    session: aiohttp.ClientSession, api: str, controller: Controller, lease: Lease
) -> str | None:
    """Return None once the hub has the spawn or its user gave up, else the hub's reason for refusing it."""
    server = f"servers/{quote(lease.server, safe='')}" if lease.server else "server"
    url = URL(f"{api}/users/{quote(lease.user, safe='')}/{server}", encoded=True)
    options = {
        "release": lease.release,
        "gpus": lease.gpu_count,
        "mig_profile": lease.mig_profile,
        "hours": lease.hours,
        "when_idle": lease.when_idle.value,
        "start_mode": lease.start_mode.value,
    }
    refusals: list[str] = []
    while len(refusals) < TRIES:
        try:
            # a spawn that its user gave up at this moment is answered like a failure
            current = await controller.lease_of(lease.user, lease.server)
            if current is None or current.id != lease.id:
                return None
            async with session.post(url, json={"user_options": options}) as answer:
                if answer.status < HTTPStatus.BAD_REQUEST:
                    return None
                text = await answer.text()
                # a 5xx, like a missing answer, is no refusal: the lease keeps its position
                if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                    refusals.append(text)
                if answer.status == HTTPStatus.NOT_FOUND:
                    break
        except (aiohttp.ClientError, Unknown) as error:  # the hub may not listen yet
            log.debug("lease=%s user=%s state=waiting reason=%s", lease.id, lease.user, error)
        await asyncio.sleep(RETRY_SECONDS)
    return refusals[-1]
