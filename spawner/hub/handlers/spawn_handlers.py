"""Spawn handlers: check and start, describe and stop servers, by REST and by the form.

They precede JupyterHub's own handlers. A request is checked before anything is created, a request that has to queue is
answered at once, and a refused request leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from jupyterhub.apihandlers.users import UserServerAPIHandler
from jupyterhub.handlers.pages import SpawnHandler
from jupyterhub.user import User
from tornado import web

from spawner.hub.handlers.api_base import ApiHandler, WorkbenchHandler, bad_request
from spawner.hub.handlers.bodies import BodyError, require_display_name, require_server_name
from spawner.hub.identity import actor_name
from spawner.hub.refusal import SpawnRefused
from spawner.model import OptionsError, Reason, Refused

CLEANUP_SECONDS = 2.0
_CHANGEABLE = frozenset({"display_name", "user_options"})


class SpawnHandlerBase(WorkbenchHandler):
    """Base of the form, the REST API and ``requeue``: starts a server without waiting for its GPUs."""

    _is_decided: asyncio.Event
    _refusal: SpawnRefused | None

    async def prepare(self) -> None:
        """Refuse a server name that no server can have."""
        await super().prepare()
        server_name = (*self.path_args, "", "")[1]
        if server_name:
            _require(require_server_name, server_name)

    async def spawn_single_user(
        self, user: User, server_name: str = "", display_name: str = "", options: object = None
    ) -> None:
        """Start the server; return as soon as its request is queued, because the queue may take days.

        The spawner calls ``report_queued`` and ``report_refused``. JupyterHub itself raises a refusal only once the
        failed server is cleaned up, and answers 201 if that takes long: with a silent Docker it does.
        """
        self._is_decided, self._refusal = asyncio.Event(), None
        spawning = asyncio.ensure_future(
            super().spawn_single_user(user, server_name, display_name, options)
        )
        decided = asyncio.ensure_future(self._is_decided.wait())
        try:
            await asyncio.wait((spawning, decided), return_when=asyncio.FIRST_COMPLETED)
            if spawning.cancelled():
                raise SpawnRefused(
                    Refused(Reason.GIVEN_UP, "This server was stopped while it started.")
                )
            if self._refusal is not None:
                await asyncio.wait((spawning,), timeout=CLEANUP_SECONDS)
                raise self._refusal
            if spawning.done():
                await spawning
        finally:
            # ends JupyterHub's wait only: the spawn itself continues and reports its own end
            spawning.cancel()
            spawning.add_done_callback(lambda done: done.cancelled() or done.exception())
            decided.cancel()

    def report_queued(self) -> None:
        """Let the request be answered: its start waits in the queue."""
        self._is_decided.set()

    def report_refused(self, refused: SpawnRefused) -> None:
        """Let the request be answered with ``refused``, after a short time for the cleanup."""
        self._refusal = refused
        self._is_decided.set()

    async def _check_named_server_request(
        self, user: User, server_name: str, display_name: str, check_limit: bool = True
    ) -> None:
        """Refuse a named server that is not allowed; no await separates this check from the creation of its row."""
        if not self.allow_named_servers:
            raise bad_request("This workbench gives one server to each user: start that one.")
        _require(require_server_name, server_name)
        _require(require_display_name, display_name)
        limit = self.named_server_limit_per_user
        if server_name not in user.orm_spawners and len(user.orm_spawners) - 1 >= limit:
            raise bad_request(
                f"{user.name} has {limit} named servers, which is the limit: delete one first."
            )


class ServerApiHandler(SpawnHandlerBase, UserServerAPIHandler, ApiHandler):  # type: ignore[misc]
    """``/users/<user>/server`` and ``/users/<user>/servers/<name>``."""

    def get_server_json_body(self) -> dict[str, Any]:
        """Return the description of a server, in JupyterHub's old form or its new one, with options of the schema."""
        body: dict[str, Any] = super().get_server_json_body()
        self._require_options(body["user_options"])
        return body

    async def post(self, user_name: str, server_name: str = "") -> None:
        """Start a server; a refused request leaves no row of a new named server."""
        user = self.find_user(user_name)
        is_new = user is not None and bool(server_name) and server_name not in user.orm_spawners
        try:
            await super().post(user_name, server_name)
        except Exception:
            if is_new:
                self._forget(user, server_name)
            raise

    async def patch(self, user_name: str, server_name: str = "") -> None:
        """Change a server's display name or options; its name is part of its address and its lease, and stays."""
        body = self.get_json_body() or {}
        if not body or body.keys() - _CHANGEABLE:
            raise bad_request("Only 'display_name' and 'user_options' of a server can be changed.")
        if "user_options" in body:
            if body["user_options"] is None:
                raise bad_request("'user_options' must be an object.")
            self._require_options(body["user_options"])
        if "display_name" in body and not server_name:
            raise bad_request("The default server has no name of its own.")
        await super().patch(user_name, server_name)

    async def delete(self, user_name: str, server_name: str = "") -> None:
        """Stop a server, or delete a named one; the audit trail names the actor."""
        user = self.find_user(user_name)
        server = None if user is None else user.spawners.get(server_name)
        if server is not None and self.has_scope(
            f"delete:servers!server={user.name}/{server_name}"
        ):
            server.ended_by = actor_name(self.current_user)
        await super().delete(user_name, server_name)

    async def stop_single_user(self, user: User, server_name: str = "") -> object:
        """Stop a server; a server with a pending start or stop is a 409."""
        pending = user.spawners[server_name].pending
        if pending:
            raise web.HTTPError(
                HTTPStatus.CONFLICT.value,
                f"This server is pending {pending}: try again in a moment.",
            )
        return await super().stop_single_user(user, server_name)

    def _require_options(self, options: object) -> None:
        if options is not None:
            try:
                self.workbench.parse(options)
            except OptionsError as error:
                raise bad_request(str(error)) from error

    def _forget(self, user: User, server_name: str) -> None:
        row = user.orm_spawners.get(server_name)
        if row is None or (server_name in user.spawners and user.spawners[server_name].active):
            return
        user.spawners.pop(server_name, None)
        self.db.delete(row)
        self.db.commit()


class SpawnFormHandler(SpawnHandlerBase, SpawnHandler):  # type: ignore[misc]
    """``/spawn``: the form; a GET creates nothing, not even the row of a named server."""

    _title = ""

    async def prepare(self) -> None:
        """Refuse fields that are not UTF-8."""
        await super().prepare()
        for arguments in (self.request.query_arguments, self.request.body_arguments):
            for values in arguments.values():
                for value in values:
                    _require(_require_text, value)

    async def _check_named_server_request(
        self, user: User, server_name: str, display_name: str, check_limit: bool = True
    ) -> None:
        if server_name not in user.orm_spawners:
            raise web.HTTPError(
                HTTPStatus.NOT_FOUND.value,
                f"{user.name} has no server named {server_name!r}: add it on the home page.",
            )
        self._title = user.orm_spawners[server_name].display_name

    def _get_user_options(self, query_options: dict[str, list[str]]) -> dict[str, list[str]]:
        """Return the options in a link's query; ``hours`` alone asks for the form's estimates and starts nothing."""
        query_options.pop("hours", None)
        options: dict[str, list[str]] = super()._get_user_options(query_options)
        return options

    def render_template(self, name: str, sync: bool = False, **names: object) -> Any:  # noqa: ANN401
        """Return the page with the server's display name as ``server_title``."""
        return super().render_template(name, sync, server_title=self._title, **names)


def _require(check: Callable[[Any], None], value: object) -> None:
    try:
        check(value)
    except BodyError as error:
        raise bad_request(str(error)) from error


def _require_text(raw: bytes) -> None:
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise BodyError("A field is not UTF-8: send text.") from None
