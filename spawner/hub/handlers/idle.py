"""REST API of idle servers: activity reports with notices, keep-alive, and a new request for GPUs that were released.

The server's own token may report and keep alive its own lease; only its user may request GPUs again.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.api_base import GetWorkbench, Route, bad_request
from spawner.hub.handlers.lease import OwnServerHandler, server_routes
from spawner.hub.handlers.spawn_handlers import SpawnHandlerBase
from spawner.hub.server_notices import MAX_CHARACTERS, MAX_NOTICES
from spawner.hub.views.lease import build_lease_view
from spawner.policy.idle import ActivityReport

SCHEMA = 1
MAX_SECONDS = 1e9
MAX_KERNELS = 1e6
_FIELDS = ("busy_kernels", "kernels_quiet_seconds", "terminals_quiet_seconds")


class ActivityHandler(OwnServerHandler):
    """``POST /hub/api/workbench/servers/<server>/activity``: reports its kernels, terminals and notices."""

    async def post(self, server_name: str = "") -> None:
        """Record the report and answer the lease."""
        user = self.require_own(scopes.LEASES, server_name)
        busy, kernels, terminals = self._read_report()
        notices = self._read_notices()
        lease = await self.workbench.controller.lease_of(user.name, server_name)
        if lease is not None:
            now = self.workbench.clock()
            report = ActivityReport(now, None if busy is None else int(busy), kernels, terminals)
            self.workbench.idle_tracker.record_activity(lease.id, report)
            self.workbench.server_notices.record(lease.id, notices)
        await self.answer(user, server_name)

    def _read_report(self) -> tuple[float | None, float | None, float | None]:
        body: dict[str, Any] = self.get_json_body() or {}
        # a server that was started before an upgrade of the hub sends no notices
        if body.keys() - {"notices"} != {"schema", *_FIELDS} or body["schema"] != SCHEMA:
            raise bad_request(
                f'Send {", ".join(_FIELDS)}, "notices" and "schema": {SCHEMA}, nothing else.'
            )
        for name, limit in zip(_FIELDS, (MAX_KERNELS, MAX_SECONDS, MAX_SECONDS), strict=True):
            value: Any = body[name]
            # bool is an int in Python; NaN compares as outside
            if value is not None and not (type(value) in (int, float) and 0 <= value <= limit):
                raise bad_request(f"'{name}' must be a number from 0 on, or null if unknown.")
        return body["busy_kernels"], body["kernels_quiet_seconds"], body["terminals_quiet_seconds"]

    def _read_notices(self) -> tuple[str, ...]:
        notices: Any = (self.get_json_body() or {}).get("notices", [])
        if (
            not isinstance(notices, list)
            or len(notices) > MAX_NOTICES
            or not all(isinstance(one, str) and len(one) <= MAX_CHARACTERS for one in notices)
        ):
            raise bad_request(
                f"'notices' must be a list of at most {MAX_NOTICES} texts of at most {MAX_CHARACTERS} characters."
            )
        return tuple(notices)


class KeepAliveHandler(OwnServerHandler):
    """``POST /hub/api/workbench/servers/<server>/keep-alive``: the user says that they still need the GPUs."""

    async def post(self, server_name: str = "") -> None:
        """Restart the idle time and answer the lease."""
        user = self.require_own(scopes.LEASES, server_name)
        lease = await self.workbench.controller.lease_of(user.name, server_name)
        if lease is not None:
            self.workbench.idle_tracker.reset(lease.id)
        await self.answer(user, server_name)


class RequeueHandler(SpawnHandlerBase, OwnServerHandler):
    """``POST /hub/api/workbench/servers/<server>/requeue``: requests the GPUs of the last, idle lease again."""

    async def post(self, server_name: str = "") -> None:
        """Stop the server if it runs without GPUs, and start it with the options of its last lease."""
        user = self.require_own("servers", server_name)
        options = (await build_lease_view(self.workbench, user, server_name)).requeue_options
        if server_name not in user.orm_spawners:
            raise web.HTTPError(
                HTTPStatus.NOT_FOUND.value,
                f"{user.name} has no server named {server_name[:40]!r}: add it on the home page.",
            )
        if options is None:
            raise web.HTTPError(
                HTTPStatus.CONFLICT.value,
                "No GPUs of this server were released lately: start it with the form.",
            )
        spawner = user.spawners[server_name]
        if spawner.ready and not spawner.pending:
            await self.stop_single_user(user, server_name)
        if spawner.active or spawner.pending:
            raise web.HTTPError(
                HTTPStatus.CONFLICT.value, "The server is still stopping: try again in a moment."
            )
        await self.spawn_single_user(user, server_name, options=options)
        self.set_status(HTTPStatus.ACCEPTED.value)


def idle_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes, below the hub's prefix."""
    return server_routes(
        get_workbench, activity=ActivityHandler, keep_alive=KeepAliveHandler, requeue=RequeueHandler
    )
