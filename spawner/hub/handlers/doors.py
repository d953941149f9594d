"""The doors of the hub: every route by which a server is described, started or ended.

They stand before JupyterHub's own handlers. What a request carries is checked before anything is made of it, whoever
has to wait is answered at once, and what is refused leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import functools
import textwrap
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.apihandlers.users import UserServerAPIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.pages import SpawnHandler
from jupyterhub.user import User
from tornado import web

from spawner.hub.handlers.bodies import (
    BodyError,
    read_body,
    require_display_name,
    require_server_name,
)
from spawner.hub.identity import call_actor
from spawner.hub.refusal import Refusal
from spawner.hub.workbench import Workbench
from spawner.model import OptionsError, Reason, Refused

GetWorkbench = Callable[[], Workbench]

MOST_CHARACTERS = 300
_DESCRIPTION = frozenset({"display_name", "user_options"})


class ApiHandler(APIHandler):  # type: ignore[misc]
    """Reads a body by the rules of ``bodies``, for every handler of the REST API; it comes last among their bases."""

    def get_json_body(self) -> dict[str, Any] | None:
        """Return the object that was sent, always the same one."""
        return self._sent

    def write_error(self, status_code: int, **kwargs: Any) -> None:  # noqa: ANN401
        """Answer an error with one sentence, where JupyterHub itself has none or a page of them."""
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        if isinstance(error, web.HTTPError):
            what = HTTPStatus(status_code).description or HTTPStatus(status_code).phrase
            message = error.get_message() or f"{self.request.method} cannot be done here: {what}."
            # the attribute that JupyterHub looks for
            vars(error)["jupyterhub_message"] = textwrap.shorten(
                message, MOST_CHARACTERS, placeholder="…"
            )
        super().write_error(status_code, **kwargs)

    @functools.cached_property
    def _sent(self) -> dict[str, Any] | None:
        try:
            return read_body(self.request.body)
        except BodyError as error:
            raise bad_request(str(error)) from error


class StartsServers(BaseHandler):  # type: ignore[misc]
    """What the form and the REST API have in common."""

    def initialize(self, get_workbench: GetWorkbench) -> None:
        """Take the parts from the configuration."""
        self.workbench = get_workbench()

    async def prepare(self) -> None:
        """Refuse addresses that no server can have."""
        await super().prepare()
        server_name = (*self.path_args, "", "")[1]
        if server_name:
            _require(require_server_name, server_name)

    async def spawn_single_user(
        self, user: User, server_name: str = "", display_name: str = "", options: object = None
    ) -> None:
        """Start the server; return as soon as it stands in line, which may be for days.

        The spawner sets ``stands_in_line``.
        """
        self.stands_in_line = asyncio.Event()
        spawning = asyncio.ensure_future(
            super().spawn_single_user(user, server_name, display_name, options)
        )
        in_line = asyncio.ensure_future(self.stands_in_line.wait())
        try:
            await asyncio.wait((spawning, in_line), return_when=asyncio.FIRST_COMPLETED)
            if spawning.cancelled():
                raise Refusal(Refused(Reason.GIVEN_UP, "This server was stopped while it started."))
            if spawning.done():
                await spawning
        finally:
            # only JupyterHub's waiting for the spawn: the spawn itself goes on, and tells its own end
            spawning.cancel()
            spawning.add_done_callback(lambda done: done.cancelled() or done.exception())
            in_line.cancel()

    async def _check_named_server_request(
        self, user: User, server_name: str, display_name: str, check_limit: bool = True
    ) -> None:
        """Refuse a server that cannot be; nothing awaits between this and the making of its row."""
        if not self.allow_named_servers:
            raise bad_request("This workbench gives one server to each user: start that one.")
        _require(require_server_name, server_name)
        _require(require_display_name, display_name)
        most = self.named_server_limit_per_user
        if server_name not in user.orm_spawners and len(user.orm_spawners) - 1 >= most:
            raise bad_request(
                f"{user.name} has {most} named servers, which is the most: delete one first."
            )


class ServerApiHandler(StartsServers, UserServerAPIHandler, ApiHandler):  # type: ignore[misc]
    """``/users/<user>/server`` and ``/users/<user>/servers/<name>``."""

    def get_server_json_body(self) -> dict[str, Any]:
        """Return the description of a server, old style or new, once its options are known to be of the schema."""
        body: dict[str, Any] = super().get_server_json_body()
        self._require_options(body["user_options"])
        return body

    async def post(self, user_name: str, server_name: str = "") -> None:
        """Start a server; one that was not there before and is refused is not there afterwards."""
        user = self.find_user(user_name)
        is_new = user is not None and bool(server_name) and server_name not in user.orm_spawners
        try:
            await super().post(user_name, server_name)
        except Exception:
            if is_new:
                self._forget(user, server_name)
            raise

    async def patch(self, user_name: str, server_name: str = "") -> None:
        """Describe a server anew; its name is its address and its lease's, and stays."""
        body = self.get_json_body() or {}
        if not body or body.keys() - _DESCRIPTION:
            raise bad_request("Only 'display_name' and 'user_options' of a server can be changed.")
        if "user_options" in body:
            if body["user_options"] is None:
                raise bad_request("'user_options' must be an object.")
            self._require_options(body["user_options"])
        if "display_name" in body and not server_name:
            raise bad_request("The default server has no name of its own.")
        await super().patch(user_name, server_name)

    async def delete(self, user_name: str, server_name: str = "") -> None:
        """Stop a server, or delete a named one, and let the audit trail know on whose word."""
        user = self.find_user(user_name)
        server = None if user is None else user.spawners.get(server_name)
        if server is not None and self.has_scope(
            f"delete:servers!server={user.name}/{server_name}"
        ):
            server.ended_by = call_actor(self.current_user)
        await super().delete(user_name, server_name)

    async def stop_single_user(self, user: User, server_name: str = "") -> object:
        """Stop a server, unless JupyterHub has something else in hand with it."""
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


class SpawnFormHandler(StartsServers, SpawnHandler):  # type: ignore[misc]
    """``/spawn``: the form. Following a link makes nothing, not even the row of a named server."""

    _title = ""

    async def prepare(self) -> None:
        """Refuse what is no text."""
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
        """Return what a link wants to start a server with; ``hours`` alone only asks for the form's estimates."""
        query_options.pop("hours", None)
        options: dict[str, list[str]] = super()._get_user_options(query_options)
        return options

    def render_template(self, name: str, sync: bool = False, **names: object) -> Any:  # noqa: ANN401
        """Return the page, which is told what the server is called."""
        return super().render_template(name, sync, server_title=self._title, **names)


def bad_request(sentence: str) -> web.HTTPError:
    """Return the answer to a request that cannot be understood."""
    return web.HTTPError(HTTPStatus.BAD_REQUEST.value, sentence)


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
