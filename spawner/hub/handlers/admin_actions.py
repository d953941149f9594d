"""REST API of an admin's actions: drain and undrain GPUs, end leases, move requests in the queue.

Every action needs a reason; the trail keeps it, and each affected user reads it.
"""

from __future__ import annotations

import functools
from http import HTTPStatus
from typing import TypeVar

from spawner.controller.admin_actions import AdminActions
from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import actor_of, require
from spawner.hub.handlers.api_base import GetWorkbench, Route, WorkbenchApiHandler
from spawner.hub.handlers.operation import operation
from spawner.hub.refusal import to_http_error
from spawner.hub.schema.base import AdminActionBody, RequestBody
from spawner.hub.schema.leases import QueueMoveBody
from spawner.model import Refused

_BodyT = TypeVar("_BodyT", bound=RequestBody)
action_operation = functools.partial(
    operation,
    body=AdminActionBody,
    status=HTTPStatus.NO_CONTENT,
    refusals=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
"""Declares an action: its body has a reason, its answer is empty."""


class AdminActionHandler(WorkbenchApiHandler):
    """Base of the actions: the body is ``{"reason": …}`` with the action's own fields, the answer is a 204."""

    @property
    def actions(self) -> AdminActions:
        """Return the controller's admin actions."""
        return self.workbench.controller.admin_actions

    def read_action(self, scope: str, model: type[_BodyT]) -> _BodyT:
        """Return the body as ``model``; raises a 403 without ``scope``, a 400 for any other body."""
        require(self, scope, scopes.ADMIN)
        return self.read_as(model)

    def answer(self, outcome: object) -> None:
        """Answer 204, or the refusal in ``outcome``."""
        if isinstance(outcome, Refused):
            raise to_http_error(outcome)
        self.set_status(HTTPStatus.NO_CONTENT)


class DrainHandler(AdminActionHandler):
    """``POST /hub/api/workbench/gpus/<uuid>/drain``."""

    @action_operation(
        "drainGpu",
        "Drain a GPU: no new lease holds it; a lease that holds it keeps it.",
        scope=scopes.GPUS,
        answers="It is drained.",
    )
    async def post(self, gpu_uuid: str) -> None:
        """Give this GPU to no new lease; a lease that holds it keeps it."""
        reason = self.read_action(scopes.GPUS, AdminActionBody).reason
        self.answer(await self.actions.drain(gpu_uuid, by=actor_of(self), reason=reason))


class UndrainHandler(AdminActionHandler):
    """``POST /hub/api/workbench/gpus/<uuid>/undrain``."""

    @action_operation(
        "undrainGpu",
        "End the drain of a GPU.",
        scope=scopes.GPUS,
        answers="New leases may hold it.",
    )
    async def post(self, gpu_uuid: str) -> None:
        """Give this GPU to new leases again."""
        reason = self.read_action(scopes.GPUS, AdminActionBody).reason
        self.answer(await self.actions.undrain(gpu_uuid, by=actor_of(self), reason=reason))


class LeaseEndHandler(AdminActionHandler):
    """``POST /hub/api/workbench/leases/<lease>/end``."""

    @action_operation(
        "endLease",
        "End a lease, or take its waiting request out of the queue; its user reads the reason.",
        scope=scopes.END,
        answers="It was ended.",
    )
    async def post(self, lease_id: str) -> None:
        """End this lease, or take its waiting request out of the queue."""
        reason = self.read_action(scopes.END, AdminActionBody).reason
        self.answer(await self.actions.end(lease_id, by=actor_of(self), reason=reason))


class QueueEntryHandler(AdminActionHandler):
    """``PATCH /hub/api/workbench/queue/<lease>`` with ``{"to": "first" | "last", "reason": …}``."""

    @action_operation(
        "moveInQueue",
        "Move a waiting request before, or after, all others for the same kind of GPU.",
        scope=scopes.QUEUE,
        body=QueueMoveBody,
        answers="It was moved.",
    )
    async def patch(self, lease_id: str) -> None:
        """Move the waiting request of this lease to the front or the end of the queue."""
        body = self.read_action(scopes.QUEUE, QueueMoveBody)
        self.answer(
            await self.actions.move(lease_id, body.to, by=actor_of(self), reason=body.reason)
        )


def admin_action_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes, below the hub's prefix."""
    options = {"get_workbench": get_workbench}
    return [
        ("/api/workbench/gpus/([^/]+)/drain", DrainHandler, options),
        ("/api/workbench/gpus/([^/]+)/undrain", UndrainHandler, options),
        ("/api/workbench/leases/([^/]+)/end", LeaseEndHandler, options),
        ("/api/workbench/queue/([^/]+)", QueueEntryHandler, options),
    ]
