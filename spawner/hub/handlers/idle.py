"""REST API of idle servers: activity reports with notices, keep-alive, and a new request for GPUs that were released.

The server's own token may report and keep alive its own lease; only its user may request GPUs again.
"""

from __future__ import annotations

from http import HTTPStatus

from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.api_base import GetWorkbench, Route
from spawner.hub.handlers.lease import OwnServerHandler, server_routes
from spawner.hub.handlers.operation import operation
from spawner.hub.handlers.spawn_handlers import SpawnHandlerBase
from spawner.hub.schema.leases import ActivityBody, LeaseJson
from spawner.hub.views.lease import build_lease_view
from spawner.policy.idle import ActivityReport


class ActivityHandler(OwnServerHandler):
    """``POST /hub/api/workbench/servers/<server>/activity``: reports its kernels, terminals and notices."""

    @operation(
        "reportActivity",
        "Report the activity of kernels and terminals.",
        scope=scopes.LEASES,
        body=ActivityBody,
        answers="The lease.",
        answer=LeaseJson,
    )
    async def post(self, server_name: str = "") -> None:
        """Record the report and answer the lease."""
        user = self.require_own(scopes.LEASES, server_name)
        sent = self.read_as(ActivityBody)
        lease = await self.workbench.controller.lease_of(user.name, server_name)
        if lease is not None:
            now = self.workbench.clock()
            busy = sent.busy_kernels
            report = ActivityReport(
                now,
                None if busy is None else int(busy),
                sent.kernels_quiet_seconds,
                sent.terminals_quiet_seconds,
            )
            self.workbench.idle_tracker.record_activity(lease.id, report)
            self.workbench.server_notices.record(lease.id, tuple(sent.notices))
        await self.answer(user, server_name)


class KeepAliveHandler(OwnServerHandler):
    """``POST /hub/api/workbench/servers/<server>/keep-alive``: the user says that they still need the GPUs."""

    @operation(
        "keepAlive",
        "Keep idle GPUs: the user still needs them.",
        scope=scopes.LEASES,
        answers="The lease.",
        answer=LeaseJson,
    )
    async def post(self, server_name: str = "") -> None:
        """Restart the idle time and answer the lease."""
        user = self.require_own(scopes.LEASES, server_name)
        lease = await self.workbench.controller.lease_of(user.name, server_name)
        if lease is not None:
            self.workbench.idle_tracker.reset(lease.id)
        await self.answer(user, server_name)


class RequeueHandler(SpawnHandlerBase, OwnServerHandler):
    """``POST /hub/api/workbench/servers/<server>/requeue``: requests the GPUs of the last, idle lease again."""

    @operation(
        "requeue",
        "Request the GPUs of the last, idle lease again.",
        scope="servers",
        answers="The server starts, or its request waits in the queue.",
        status=HTTPStatus.ACCEPTED,
        refusals=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    )
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
