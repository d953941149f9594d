"""From a request to a granted lease, and back: standing in line, giving up, giving back.

Whatever was claimed for somebody who has gone meanwhile is given back; only the end of the hub itself gives nothing
back, because the next hub goes on where this one was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from spawner.hub.metrics import count_grant
from spawner.hub.refusal import SpawnRefused
from spawner.hub.workbench import Workbench
from spawner.ledger.trail import HUB
from spawner.model import Cause, Granted, Lease, QueuePosition, Reason, Refused, Request, Unknown, Waiting

log = logging.getLogger("workbench.hub")

RETRY_SECONDS = 1.0

ReportPosition = Callable[[Lease, QueuePosition], None]
"""(the lease that waits, its place)."""


async def wait_for_grant(workbench: Workbench, request: Request, report: ReportPosition) -> Lease:
    """Return the granted lease of ``request``, after standing in line for it where it has to; raises SpawnRefused."""
    controller = workbench.controller
    acquiring = asyncio.ensure_future(controller.acquire(request))
    try:
        answer = await asyncio.shield(acquiring)
        if isinstance(answer, Waiting):
            waits = answer.lease
            granted = await controller.wait_for_grant(waits.id, lambda place: report(waits, place))
            answer = await _build_removal_refusal(workbench, waits) if granted is None else Granted(granted)
    except asyncio.CancelledError:
        if not workbench.is_shutting_down:
            # the place, or a claim that is being made right now: nobody else would know of it
            workbench.run_in_background(_release_abandoned(workbench, acquiring))
        raise
    if isinstance(answer, Refused):
        raise SpawnRefused(answer)
    count_grant(answer.lease)
    return answer.lease


async def release_until_gone(
    workbench: Workbench, lease_id: str, cause: Cause, *, by: str = HUB
) -> None:
    """Close the lease on the word of ``by``; return only when Docker proved that its container is gone."""
    while True:
        try:
            if await workbench.controller.release(lease_id, cause, by=by):
                return
        except Exception:  # ending here would tell JupyterHub that the server is gone
            log.exception("Still releasing lease %s", lease_id)
        await asyncio.sleep(RETRY_SECONDS)


async def _build_removal_refusal(workbench: Workbench, waits: Lease) -> Refused:
    """Return how a place in line was lost."""
    try:
        why = await workbench.controller.admin_actions.end_reason(waits.id)
    except Unknown:
        why = None
    if why is not None:
        return Refused(Reason.GIVEN_UP, f"An admin took you out of line: {why}")
    return Refused(
        Reason.GIVEN_UP, "Your place in line was given up: ask again when you need a GPU."
    )


async def _release_abandoned(
    workbench: Workbench, acquiring: asyncio.Future[Granted | Waiting | Refused]
) -> None:
    answer = await acquiring
    if not isinstance(answer, Refused):
        await release_until_gone(workbench, answer.lease.id, Cause.USER)
