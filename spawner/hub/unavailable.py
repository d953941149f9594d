"""What the hub answers while a database cannot be asked: 503, and when to come again.

Left to itself JupyterHub waits for its database with everybody, and then takes its users for strangers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers.base import BaseHandler
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from tornado import web

from spawner.model import Unknown

RETRY_AFTER_SECONDS = 5
PATIENCE_SECONDS = 30
"""How long what is under way waits for the hub's database: a spawn that could not be written would be half a spawn."""

Prepare = Callable[[BaseHandler], Awaitable[None]]


class Unavailable(web.HTTPError):
    """A 503 with one sentence."""

    def __init__(self, sentence: str) -> None:
        """Say ``sentence`` on pages and in REST answers alike."""
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE.value, sentence)
        self.jupyterhub_message = sentence
        # JupyterHub sets them where it writes the error
        self.headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}


def answer_unavailable(hub_database: Path) -> None:
    """Let every page and REST handler of JupyterHub answer so; call it once, before the hub listens."""
    BaseHandler.prepare = reject_while_locked(hub_database, BaseHandler.prepare)
    BaseHandler.send_error = _send_error


def reject_while_locked(hub_database: Path, prepare: Prepare) -> Prepare:
    lock = _Lock(hub_database)

    async def prepare_unless_locked(handler: BaseHandler) -> None:
        if lock.is_anothers(handler.db):
            reject(handler)
        else:
            await prepare(handler)

    return prepare_unless_locked


def reject(handler: BaseHandler) -> None:
    """Answer without a page: for whom it would be is in the database, and a stranger's would change cookies."""
    sentence = "The hub's database is busy: try again in a moment."
    handler.set_status(HTTPStatus.SERVICE_UNAVAILABLE.value)
    handler.set_header("Retry-After", str(RETRY_AFTER_SECONDS))
    if isinstance(handler, APIHandler):
        handler.finish({"status": HTTPStatus.SERVICE_UNAVAILABLE.value, "message": sentence})
    else:
        handler.set_header("Content-Type", "text/plain")
        handler.finish(sentence)


class _Lock:
    """The write lock of a SQLite database, tried on a connection of its own; costs some microseconds."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None

    def is_anothers(self, session: Session) -> bool:
        """Return whether another process has it: not ``session``, which may be in the middle of a change."""
        if self._connection is None:
            self._connection = sqlite3.connect(self._database, timeout=0, isolation_level=None)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            return error.sqlite_errorcode == sqlite3.SQLITE_BUSY and not _is_changing(session)
        self._connection.execute("ROLLBACK")
        return False


def _is_changing(session: Session) -> bool:
    connection: Any = session.connection().connection.driver_connection
    return bool(connection.in_transaction)


def _send_error(handler: BaseHandler, status_code: int = 500, **kwargs: Any) -> None:  # noqa: ANN401
    error = (kwargs.get("exc_info") or (None, None))[1]
    if isinstance(error, OperationalError):
        handler.db.rollback()
        error = Unavailable("The hub's database does not answer: try again in a moment.")
    elif isinstance(error, Unknown):
        error = Unavailable(f"{error} Try again in a moment.")
    if isinstance(error, Unavailable):
        status_code, kwargs["exc_info"] = error.status_code, (type(error), error, None)
    web.RequestHandler.send_error(handler, status_code, **kwargs)
