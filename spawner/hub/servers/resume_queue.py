"""Puts everyone who stood in line when the last hub ended back on a pending spawn, by the hub's own REST API.

The place is the ledger's and is kept; the service that asks may start servers and nothing else.
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

log = logging.getLogger("workbench.hub")

SERVICE = "waiting-room"
SERVICE_SCOPES = ["start:servers"]

AT_ONCE = (
    8  # each costs the hub some 20 ms; whoever looks at a page meanwhile has to come in between
)
READY_SECONDS = 0.2
RETRY_SECONDS = 1.0
TRIES = 60


async def resume_queue(workbench: Workbench, api: str) -> None:
    """Once, after the first reconcile, start the server of everyone who waited, at the hub's REST API ``api``.

    Whoever cannot be started any more, such as a user who was deleted, leaves the line.
    """
    controller = workbench.controller
    leases = await _get_unattended(controller)
    start_semaphore = asyncio.Semaphore(AT_ONCE)
    headers = {"Authorization": f"token {workbench.service_token}"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def ask(lease: Lease) -> None:
            async with start_semaphore:
                refusal = await _start(session, api, controller, lease)
            if refusal is not None:
                log.warning("%s leaves the line: %s", lease.user, refusal)
                await controller.release(lease.id, Cause.FAILED)

        await asyncio.gather(*(ask(lease) for lease in leases))
    if leases:
        log.info("%d servers are back in line", len(leases))


async def _get_unattended(controller: Controller) -> tuple[Lease, ...]:
    while True:
        if controller.is_ready:
            try:
                return await controller.leases_without_spawn()
            except Unknown as error:
                log.warning("Nobody knows yet who waited: %s", error)
        await asyncio.sleep(READY_SECONDS)


async def _start(
    session: aiohttp.ClientSession, api: str, controller: Controller, lease: Lease
) -> str | None:
    """Return None once the hub has taken up the spawn or its user has given up, why not when it will not."""
    server = f"servers/{quote(lease.server, safe='')}" if lease.server else "server"
    url = URL(f"{api}/users/{quote(lease.user, safe='')}/{server}", encoded=True)
    options = {
        "release": lease.release,
        "gpus": lease.gpu_count,
        "mig_profile": lease.mig_profile,
        "hours": lease.hours,
        "when_idle": lease.when_idle.value,
    }
    said: list[str] = []
    while len(said) < TRIES:
        try:
            # a spawn that its user gave up while the hub took it up is answered like a failure
            current = await controller.lease_of(lease.user, lease.server)
            if current is None or current.id != lease.id:
                return None
            async with session.post(url, json={"user_options": options}) as answer:
                if answer.status < HTTPStatus.BAD_REQUEST:
                    return None
                text = await answer.text()
                # no answer, however long, costs nobody their place, nor one that says that nobody knows yet
                if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                    said.append(text)
                if answer.status == HTTPStatus.NOT_FOUND:
                    break
        except (aiohttp.ClientError, Unknown) as error:  # the hub begins to listen only now
            log.debug("%s is not yet back in line: %s", lease.user, error)
        await asyncio.sleep(RETRY_SECONDS)
    return said[-1]
