"""REST API of what an admin orders: GPUs drained and given again, leases ended, people moved in line.

Every order carries a reason, which everyone whom it concerns is told, and which the trail keeps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from tornado import web

from spawner.controller.admin_actions import AdminActions
from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import actor_of, require
from spawner.hub.handlers.doors import ApiHandler, bad_request
from spawner.hub.refusal import to_http_error
from spawner.hub.workbench import Workbench
from spawner.model import QueueEnd, Refused, Unknown

MOST_CHARACTERS = 200


class OrderAPI(ApiHandler):
    """What the orders have in common: ``{"reason": …}`` comes in, 204 goes out."""

    scope = ""
    fields: frozenset[str] = frozenset({"reason"})

    def initialize(self, get_workbench: Callable[[], Workbench]) -> None:
        """Take the parts from the configuration."""
        self._workbench = get_workbench()

    async def post(self, subject: str) -> None:
        """Do it, or say why not."""
        require(self, self.scope, scopes.ADMIN)
        body = self._read()
        orders = self._workbench.controller.admin_actions
        try:
            answer = await self.order(orders, subject, body)
        except Unknown as error:
            raise web.HTTPError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"That cannot be done now: {error} Try again."
            ) from error
        if isinstance(answer, Refused):
            raise to_http_error(answer)
        self.set_status(HTTPStatus.NO_CONTENT)

    def order(self, orders: AdminActions, subject: str, body: dict[str, str]) -> Awaitable[object]:
        """Give the order about ``subject``; ``body`` is of the order's fields."""
        raise NotImplementedError

    def _read(self) -> dict[str, str]:
        body: Any = self.get_json_body()
        if not isinstance(body, dict) or set(body) != self.fields:
            wanted = ", ".join(f'"{field}": …' for field in sorted(self.fields))
            raise bad_request(f"Send {{{wanted}}}.")
        said: Any = body["reason"]
        reason = said.strip() if isinstance(said, str) else ""
        if not reason or len(reason) > MOST_CHARACTERS or not reason.isprintable():
            raise bad_request(
                f"Say why, in one line of at most {MOST_CHARACTERS} characters: "
                '{"reason": "the fan is loud"}.'
            )
        return {**body, "reason": reason}


class DrainAPI(OrderAPI):
    """``POST /hub/api/workbench/gpus/<uuid>/drain``."""

    scope = scopes.GPUS

    def order(self, orders: AdminActions, subject: str, body: dict[str, str]) -> Awaitable[object]:
        """Give this GPU to nobody from now on."""
        return orders.drain(subject, by=actor_of(self), reason=body["reason"])


class UndrainAPI(OrderAPI):
    """``POST /hub/api/workbench/gpus/<uuid>/undrain``."""

    scope = scopes.GPUS

    def order(self, orders: AdminActions, subject: str, body: dict[str, str]) -> Awaitable[object]:
        """Let this GPU be given to people again."""
        return orders.undrain(subject, by=actor_of(self), reason=body["reason"])


class EndAPI(OrderAPI):
    """``POST /hub/api/workbench/leases/<id>/end``."""

    scope = scopes.END

    def order(self, orders: AdminActions, subject: str, body: dict[str, str]) -> Awaitable[object]:
        """End this lease, whoever has it, or take who waits out of line."""
        return orders.end(subject, by=actor_of(self), reason=body["reason"])


class MoveAPI(OrderAPI):
    """``POST /hub/api/workbench/line/<lease id>/move`` with ``{"to": "first" | "last", "reason": …}``."""

    scope = scopes.MOVE
    fields = frozenset({"reason", "to"})

    def order(self, orders: AdminActions, subject: str, body: dict[str, str]) -> Awaitable[object]:
        """Move who waits with this lease."""
        if body["to"] not in tuple(QueueEnd):
            raise bad_request('Say where to: {"to": "first"} or {"to": "last"}.')
        return orders.move(subject, QueueEnd(body["to"]), by=actor_of(self), reason=body["reason"])


def order_handlers(
    get_workbench: Callable[[], Workbench],
) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the routes below the hub's prefix."""
    parts = {"get_workbench": get_workbench}
    return [
        ("/api/workbench/gpus/([^/]+)/drain", DrainAPI, parts),
        ("/api/workbench/gpus/([^/]+)/undrain", UndrainAPI, parts),
        ("/api/workbench/leases/([^/]+)/end", EndAPI, parts),
        ("/api/workbench/line/([^/]+)/move", MoveAPI, parts),
    ]
