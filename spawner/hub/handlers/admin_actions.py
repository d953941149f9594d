"""REST API of an admin's actions: drain and undrain GPUs, end leases, move requests in the queue.

Every action needs a reason; the trail keeps it, and each affected user reads it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from spawner.controller.admin_actions import AdminActions
from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import actor_of, require
from spawner.hub.handlers.api_base import GetWorkbench, Route, WorkbenchApiHandler, bad_request
from spawner.hub.refusal import to_http_error
from spawner.model import QueueEnd, Refused

MAX_REASON_CHARACTERS = 200


class AdminActionHandler(WorkbenchApiHandler):
    """Base of the actions: the body is ``{"reason": …}`` with the action's own fields, the answer is a 204."""

    @property
    def actions(self) -> AdminActions:
        """Return the controller's admin actions."""
        return self.workbench.controller.admin_actions

    def read_action(self, scope: str, *fields: str) -> dict[str, str]:
        """Return the body, of ``reason`` and ``fields``; raises a 403 without ``scope``, a 400 for any other body."""
        require(self, scope, scopes.ADMIN)
        body: Any = self.get_json_body()
        names = {"reason", *fields}
        if not isinstance(body, dict) or set(body) != names:
            wanted = ", ".join(f'"{name}": …' for name in sorted(names))
            raise bad_request(f"Send {{{wanted}}}.")
        given: Any = body["reason"]
        reason = given.strip() if isinstance(given, str) else ""
        if not reason or len(reason) > MAX_REASON_CHARACTERS or not reason.isprintable():
            raise bad_request(
                f"Give a reason, in one line of at most {MAX_REASON_CHARACTERS} characters: "
                '{"reason": "the fan is loud"}.'
            )
        return {**body, "reason": reason}

    def answer(self, outcome: object) -> None:
        """Answer 204, or the refusal in ``outcome``."""
        if isinstance(outcome, Refused):
            raise to_http_error(outcome)
        self.set_status(HTTPStatus.NO_CONTENT)


class DrainHandler(AdminActionHandler):
    """``POST /hub/api/workbench/gpus/<uuid>/drain``."""

    async def post(self, gpu_uuid: str) -> None:
        """Give this GPU to no new lease; a lease that holds it keeps it."""
        reason = self.read_action(scopes.GPUS)["reason"]
        self.answer(await self.actions.drain(gpu_uuid, by=actor_of(self), reason=reason))


class UndrainHandler(AdminActionHandler):
    """``POST /hub/api/workbench/gpus/<uuid>/undrain``."""

    async def post(self, gpu_uuid: str) -> None:
        """Give this GPU to new leases again."""
        reason = self.read_action(scopes.GPUS)["reason"]
        self.answer(await self.actions.undrain(gpu_uuid, by=actor_of(self), reason=reason))


class LeaseEndHandler(AdminActionHandler):
    """``POST /hub/api/workbench/leases/<lease>/end``."""

    async def post(self, lease_id: str) -> None:
        """End this lease, or take its waiting request out of the queue."""
        reason = self.read_action(scopes.END)["reason"]
        self.answer(await self.actions.end(lease_id, by=actor_of(self), reason=reason))


class QueueEntryHandler(AdminActionHandler):
    """``PATCH /hub/api/workbench/queue/<lease>`` with ``{"to": "first" | "last", "reason": …}``."""

    async def patch(self, lease_id: str) -> None:
        """Move the waiting request of this lease to the front or the end of the queue."""
        body = self.read_action(scopes.QUEUE, "to")
        if body["to"] not in tuple(QueueEnd):
            raise bad_request('Give the end of the queue: {"to": "first"} or {"to": "last"}.')
        to = QueueEnd(body["to"])
        self.answer(await self.actions.move(lease_id, to, by=actor_of(self), reason=body["reason"]))


def admin_action_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes, below the hub's prefix."""
    options = {"get_workbench": get_workbench}
    return [
        ("/api/workbench/gpus/([^/]+)/drain", DrainHandler, options),
        ("/api/workbench/gpus/([^/]+)/undrain", UndrainHandler, options),
        ("/api/workbench/leases/([^/]+)/end", LeaseEndHandler, options),
        ("/api/workbench/queue/([^/]+)", QueueEntryHandler, options),
    ]
