"""REST API of idle servers: what a server says of itself, "I'm still here", and asking for its GPUs again.

The server's own token may do the first two for its own lease; servers are started by their users only.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.doors import StartsServers, bad_request
from spawner.hub.handlers.lease import OwnLease
from spawner.hub.views.lease import build_lease_view
from spawner.hub.workbench import Workbench
from spawner.policy.idle import ActivityReport

SCHEMA = 1
MOST_SECONDS = 1e9
MOST_KERNELS = 1e6
_WORDS = ("busy_kernels", "kernels_quiet_seconds", "terminals_quiet_seconds")


class ActivityAPI(OwnLease):
    """``POST /hub/api/workbench/activity/<server>``: what its kernels and terminals do."""

    async def post(self, server_name: str) -> None:
        """Take note of it and answer the lease."""
        user = self.require_own(scopes.LEASES, server_name)
        busy, kernels, terminals = self._read_words()
        lease = await self.workbench.controller.lease_of(user.name, server_name)
        if lease is not None:
            now = self.workbench.clock()
            word = ActivityReport(now, None if busy is None else int(busy), kernels, terminals)
            self.workbench.idle_tracker.record_activity(lease.id, word)
        await self.answer(user, server_name)

    def _read_words(self) -> tuple[float | None, float | None, float | None]:
        body: dict[str, Any] = self.get_json_body() or {}
        if body.keys() != {"schema", *_WORDS} or body["schema"] != SCHEMA:
            raise bad_request(f'Say {", ".join(_WORDS)} and "schema": {SCHEMA}, nothing else.')
        for name, most in zip(_WORDS, (MOST_KERNELS, MOST_SECONDS, MOST_SECONDS), strict=True):
            value: Any = body[name]
            # bool is an int in Python; NaN compares as outside
            if value is not None and not (type(value) in (int, float) and 0 <= value <= most):
                raise bad_request(f"'{name}' must be a number from 0 on, or null if unknown.")
        return body["busy_kernels"], body["kernels_quiet_seconds"], body["terminals_quiet_seconds"]


class HereAPI(OwnLease):
    """``POST /hub/api/workbench/here/<server>``: "I'm still here"."""

    async def post(self, server_name: str) -> None:
        """Let the time in which nothing was done begin anew, and answer the lease."""
        user = self.require_own(scopes.LEASES, server_name)
        lease = await self.workbench.controller.lease_of(user.name, server_name)
        if lease is not None:
            self.workbench.idle_tracker.reset(lease.id)
        await self.answer(user, server_name)


class AgainAPI(StartsServers, OwnLease):
    """``POST /hub/api/workbench/again/<server>``: what the idle server had, asked for once more."""

    async def post(self, server_name: str) -> None:
        """Stop what goes on without GPUs, and stand in line with the options of before."""
        user = self.require_own("servers", server_name)
        again = (await build_lease_view(self.workbench, user, server_name)).again
        if server_name not in user.orm_spawners:
            raise web.HTTPError(
                HTTPStatus.NOT_FOUND.value,
                f"{user.name} has no server named {server_name[:40]!r}: add it on the home page.",
            )
        if again is None:
            raise web.HTTPError(
                HTTPStatus.CONFLICT.value,
                "No GPUs of this server were given back lately: start it with the form.",
            )
        spawner = user.spawners[server_name]
        if spawner.ready and not spawner.pending:
            await self.stop_single_user(user, server_name)
        if spawner.active or spawner.pending:
            raise web.HTTPError(
                HTTPStatus.CONFLICT.value, "It is still being stopped: try again in a moment."
            )
        await self.spawn_single_user(user, server_name, options=again)
        self.set_status(HTTPStatus.ACCEPTED.value)


def idle_handlers(get_workbench: Callable[[], Workbench]) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the routes below the hub's prefix."""
    parts = {"get_workbench": get_workbench}
    doors = {"activity": ActivityAPI, "here": HereAPI, "again": AgainAPI}
    return [(f"/api/workbench/{name}/([^/]*)", door, parts) for name, door in doors.items()]
