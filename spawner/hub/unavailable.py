"""Hub unavailability: answers 503 with one sentence and ``Retry-After`` while a dependency is silent.

A dependency is the ledger, the gpu-agent, Docker (the broker) or the hub's own database. This is the only place that
makes HTTP of their silence: no handler catches ``Unknown`` to answer it.

Why JupyterHub needs help
-------------------------
JupyterHub has one process and one event loop, and its SQLAlchemy session runs in that loop. SQLite has one write lock
per file, and JupyterHub writes at nearly every request, because it stores the time of the user's last activity.
Another process may hold the lock: a backup, a migration, an administrator's ``sqlite3`` shell. Then two things happen.

1. The write waits in the event loop. No other request is served, and no server is polled, until the wait ends.
2. The wait ends with ``OperationalError`` while JupyterHub looks up the user of the request. JupyterHub logs the error
   and goes on with no user. A page then redirects to the log-in page and clears cookies; a token is answered 403. A
   user with a valid session is logged out because of a database that was busy for a moment.

The answers
-----------
*Before a request.* ``BaseHandler.prepare`` is the first code of every request. ``reject_while_locked`` tries the write
lock on a connection of its own that waits 0 s, which costs microseconds. If another process holds the lock, or the
file cannot be used at all, the answer is 503. It is no page, because a page names its user, whom only the database
knows. Neither the user lookup nor the log-in redirect runs, so every session survives.

*During a request.* A lock can be taken between ``prepare`` and a later write. JupyterHub's own connection therefore
waits up to ``PATIENCE_SECONDS`` for it. A spawn is the reason: a container without its row in the database is half a
spawn, and a stall of some seconds is better than that. When it runs out, ``send_error`` rolls back and answers 503.

*For all other dependencies.* Their clients raise ``Unknown``. ``send_error``, through which Tornado writes every
uncaught exception of every handler, turns it into the same 503.

A worked example
----------------
At 12:00:00 a script takes the write lock for 8 s. Alice has the home page open, Bob's server starts, Carol logs in.

======== =============================================== ======================================================
12:00:00 Bob's spawn, already past ``prepare``, writes.  Its connection waits; the event loop waits with it.
12:00:01 Alice's page and Carol's form arrive.           They wait in the socket's backlog.
12:00:08 The lock is free.                               Bob's write succeeds. Alice and Carol are answered normally.
======== =============================================== ======================================================

Without a spawn under way, the loop never waits. Alice and Carol get a 503 with ``Retry-After: 5`` within milliseconds.
Alice's cookies stay as they are, and the refresh of her page at 12:00:10 succeeds.

The lock of JupyterHub's own session is no reason to reject: a request may arrive between two writes of another
handler's transaction. ``_has_open_transaction`` separates the two cases.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers.base import BaseHandler
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from tornado import web

from spawner.model import Unknown

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
RETRY_HEADERS = {"Retry-After": str(RETRY_AFTER_SECONDS)}
"""JupyterHub sets an error's ``headers`` when it writes the error."""
PATIENCE_SECONDS = 30
"""How long a write under way waits for the hub's database."""
_PROBE = "workbench_database_lock_probe"

Prepare = Callable[[BaseHandler], Awaitable[None]]


class Unavailable(web.HTTPError):
    """A 503 with one sentence and ``Retry-After``."""

    def __init__(self, sentence: str) -> None:
        """Show ``sentence`` on pages and in REST answers alike."""
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE.value, "%s", sentence)
        self.jupyterhub_message = sentence
        self.headers = RETRY_HEADERS


def to_unavailable(error: BaseException | None) -> Unavailable | None:
    """Return the 503 for the silence of a dependency, None for every other error."""
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, OperationalError):
        return Unavailable("The hub's database does not answer; try again in a moment.")
    if isinstance(error, Unknown):
        return Unavailable(format_retry(error))
    return None


def format_retry(error: Unknown) -> str:
    """Return the text of ``error`` and what to do, as one sentence."""
    return f"{str(error).rstrip('. ')}; try again in a moment."


def answer_unavailable() -> None:
    """Install the answers in the base of all of JupyterHub's handlers; a second call changes nothing."""
    BaseHandler.prepare = reject_while_locked(_JUPYTERHUB_PREPARE)
    BaseHandler.send_error = _send_error
    BaseHandler.log_exception = _log_exception


def reject_while_locked(prepare: Prepare) -> Prepare:
    """Return ``prepare`` that answers 503 first, if another process holds the hub's database."""

    async def prepare_unless_locked(handler: BaseHandler) -> None:
        if _probe_of(handler).is_held_elsewhere(handler.db):
            reject(handler)
        else:
            await prepare(handler)

    return prepare_unless_locked


def reject(handler: BaseHandler) -> None:
    """Answer without a page: only the database knows its user, and a page for a stranger would change cookies."""
    sentence = "The hub's database is busy; try again in a moment."
    handler.set_status(HTTPStatus.SERVICE_UNAVAILABLE.value)
    for name, value in RETRY_HEADERS.items():
        handler.set_header(name, value)
    if isinstance(handler, APIHandler):
        handler.finish({"status": HTTPStatus.SERVICE_UNAVAILABLE.value, "message": sentence})
    else:
        handler.set_header("Content-Type", "text/plain")
        handler.finish(sentence)


class _LockProbe:
    """Tries the write lock of a SQLite file on a connection of its own, without waiting."""

    def __init__(self, database: Path) -> None:
        # "rw": a file that is gone is an error, and is not created again without tables
        self._uri = f"{database.absolute().as_uri()}?mode=rw"
        self._connection: sqlite3.Connection | None = None

    def is_held_elsewhere(self, session: Session) -> bool:
        """Return whether the database cannot be written now, for another reason than ``session`` writing to it."""
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(
                    self._uri, uri=True, timeout=0, isolation_level=None
                )
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.DatabaseError as error:
            is_busy = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            return not (is_busy and _has_open_transaction(session))
        self._connection.execute("ROLLBACK")
        return False


def _probe_of(handler: BaseHandler) -> _LockProbe:
    """Return the probe of the application's database; one per application, made at its first request."""
    settings: dict[str, Any] = handler.settings
    if _PROBE not in settings:
        settings[_PROBE] = _LockProbe(Path(handler.db.get_bind().url.database))
    probe: _LockProbe = settings[_PROBE]
    return probe


def _has_open_transaction(session: Session) -> bool:
    connection: Any = session.connection().connection.driver_connection
    return bool(connection.in_transaction)


def _send_error(handler: BaseHandler, status_code: int = 500, **kwargs: Any) -> None:  # noqa: ANN401
    error = (kwargs.get("exc_info") or (None, None))[1]
    if isinstance(error, OperationalError):
        handler.db.rollback()
    unavailable = to_unavailable(error)
    if unavailable is not None and handler._headers_written:
        # a regular end would pass off a part of a file as the whole
        handler.request.connection.stream.close()
        return
    if unavailable is not None:
        status_code = unavailable.status_code
        kwargs["exc_info"] = (Unavailable, unavailable, None)
    web.RequestHandler.send_error(handler, status_code, **kwargs)


def _log_exception(
    handler: BaseHandler,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
) -> None:
    unavailable = to_unavailable(error)
    if unavailable is None:
        web.RequestHandler.log_exception(handler, kind, error, traceback)
        return
    request = handler.request
    log.warning(
        "method=%s path=%s status=%d reason=%s",
        request.method,
        request.path,
        unavailable.status_code,
        error.orig if isinstance(error, OperationalError) else error,
    )


_JUPYTERHUB_PREPARE: Prepare = BaseHandler.prepare
