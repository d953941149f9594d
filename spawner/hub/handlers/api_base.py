"""Handler bases: give the REST API and the pages their workbench, their request body and their JSON errors.

Every handler that reaches Docker, the agent or the ledger lets ``Unknown`` through: ``spawner.hub.unavailable`` makes
the 503 of it, for JupyterHub's own handlers and for these.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers.base import BaseHandler
from tornado import web

from spawner.hub.handlers.bodies import BodyError, read_body
from spawner.hub.schema.base import RequestBody, parse_as
from spawner.hub.workbench import Workbench

GetWorkbench = Callable[[], Workbench]
Route = tuple[str, type, dict[str, Any]]

MAX_MESSAGE_CHARACTERS = 300
_BodyT = TypeVar("_BodyT", bound=RequestBody)


class WorkbenchHandler(BaseHandler):  # type: ignore[misc]
    """Handler with ``self.workbench``: the base of the workbench's pages and, through ``WorkbenchApiHandler``, REST."""

    def initialize(self, get_workbench: GetWorkbench) -> None:
        """Keep the workbench of this hub."""
        self.workbench = get_workbench()


class ApiHandler(APIHandler):  # type: ignore[misc]
    """Base of every REST handler, JupyterHub's included: reads one checked JSON object, answers errors as one sentence.

    It comes last among the bases, so that a handler's own methods come first.
    """

    def get_json_body(self) -> dict[str, Any] | None:
        """Return the request's JSON object, the same one at each call; raises a 400 for any other body."""
        return self._json_body

    def write_error(self, status_code: int, **kwargs: Any) -> None:  # noqa: ANN401
        """Write ``{"status": …, "message": …}`` with one sentence, where JupyterHub has none or a whole page."""
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        if isinstance(error, web.HTTPError):
            meaning = HTTPStatus(status_code).description or HTTPStatus(status_code).phrase
            message = error.get_message() or f"{self.request.method} is not possible: {meaning}."
            # JupyterHub reads this attribute
            vars(error)["jupyterhub_message"] = textwrap.shorten(
                message, MAX_MESSAGE_CHARACTERS, placeholder="…"
            )
        super().write_error(status_code, **kwargs)

    @functools.cached_property
    def _json_body(self) -> dict[str, Any] | None:
        try:
            return read_body(self.request.body)
        except BodyError as error:
            raise bad_request(str(error)) from error

    def read_as(self, model: type[_BodyT]) -> _BodyT:
        """Return the request's body as ``model``; raises a 400 with its sentence for any other."""
        try:
            return parse_as(model, self.get_json_body() or {})
        except ValueError as error:
            raise bad_request(str(error)) from error


class WorkbenchApiHandler(WorkbenchHandler, ApiHandler):
    """Base of the workbench's own REST handlers."""


def read_reason(given: object, most: int) -> str | None:
    """Return an optional reason of at most ``most`` characters, None for an empty one; raises a 400."""
    if given is None or (isinstance(given, str) and not given.strip()):
        return None
    if not isinstance(given, str) or len(given.strip()) > most or not given.isprintable():
        raise bad_request(f"The reason must be one line of at most {most} characters.")
    return given.strip()


def bad_request(sentence: str) -> web.HTTPError:
    """Return a 400 with ``sentence``."""
    return web.HTTPError(HTTPStatus.BAD_REQUEST.value, sentence)
