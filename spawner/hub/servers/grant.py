"""Grant: acquires a lease, waits for it in the queue, and releases it when the user gives up.

A claim that the user no longer waits for is released. A shutdown of the hub releases nothing: the next hub resumes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from spawner.hub.metrics import count_grant
from spawner.hub.refusal import SpawnRefused
from spawner.hub.workbench import Workbench
from spawner.ledger.trail import HUB
from spawner.model import (
    Cause,
    Granted,
    Lease,
    QueuePosition,
    Reason,
    Refused,
    Request,
    Unknown,
    Waiting,
)

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0

ReportPosition = Callable[[Lease, QueuePosition], None]
"""Receives the waiting lease and its position."""


async def wait_for_grant(workbench: Workbench, request: Request, report: ReportPosition) -> Lease:
    """Return the granted lease for ``request``, after a wait in the queue if necessary; raises SpawnRefused."""
    controller = workbench.controller
    acquiring = asyncio.ensure_future(controller.acquire(request))
    try:
        answer = await asyncio.shield(acquiring)
        if isinstance(answer, Waiting):
            waits = answer.lease
            granted = await controller.wait_for_grant(
                waits.id, lambda position: report(waits, position)
            )
            answer = (
                await _build_removal_refusal(workbench, waits)
                if granted is None
                else Granted(granted)
            )
    except asyncio.CancelledError:
        if not workbench.is_shutting_down:
            # the position, or a claim still in progress, would otherwise stay without an owner
            workbench.run_in_background(_release_abandoned(workbench, acquiring))
        raise
    if isinstance(answer, Refused):
        raise SpawnRefused(answer)
    count_grant(answer.lease)
    return answer.lease


async def release_until_gone(
    workbench: Workbench, lease_id: str, cause: Cause, *, by: str = HUB
) -> None:
    """Close the lease for the actor ``by``; return only when Docker has proved that its container is gone."""
    while True:
        try:
            if await workbench.controller.release(lease_id, cause, by=by):
                return
        except Exception:  # returning would mean to JupyterHub that the server is gone
            log.exception("lease=%s state=closing cause=%s: retry", lease_id, cause.value)
        await asyncio.sleep(RETRY_SECONDS)


async def _build_removal_refusal(workbench: Workbench, waits: Lease) -> Refused:
    """Return the refusal for a request that was taken out of the queue."""
    try:
        why = await workbench.controller.admin_actions.end_reason(waits.id)
    except Unknown:
        why = None
    if why is not None:
        return Refused(Reason.GIVEN_UP, f"An admin took your request out of the queue: {why}")
    return Refused(Reason.GIVEN_UP, "You left the queue: start the server again to rejoin it.")


async def _release_abandoned(
    workbench: Workbench, acquiring: asyncio.Future[Granted | Waiting | Refused]
) -> None:
    answer = await acquiring
    if not isinstance(answer, Refused):
        await release_until_gone(workbench, answer.lease.id, Cause.USER)
