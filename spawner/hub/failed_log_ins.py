"""Failed log-ins: writes one entry to the audit trail when many log-ins fail in a short time.

A single wrong password is no entry: the trail would fill with them. A typed name may be a password by mistake, so the
entry names only accounts that exist.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from jupyterhub import orm
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.user import User
from tornado import web

from spawner.hub.workbench import Workbench
from spawner.ledger.trail import HUB, TrailAction, TrailEntry
from spawner.model import Unknown

log = logging.getLogger(__name__)

MANY = 10
WINDOW_SECONDS = 60.0
QUIET_SECONDS = 600.0
"""The time after an entry in which further failures are counted for the next one."""
MAX_NAMES = 5

LogIn = Callable[..., Awaitable[User | None]]


class FailedLogIns:
    """The failures of the last minute, and those that no entry counts yet; it belongs to one event loop."""

    def __init__(self) -> None:
        """Start without failures."""
        self._recent: deque[float] = deque(maxlen=MANY)
        self._uncounted = 0
        self._names: dict[str, None] = {}
        self._quiet_until = 0.0

    def add(self, name: str | None, now: float) -> dict[str, Any] | None:
        """Count one failure for the account ``name``; return what the trail records, None for no entry."""
        self._recent.append(now)
        self._uncounted += 1
        if name is not None and len(self._names) < MAX_NAMES:
            self._names[name] = None
        are_many = len(self._recent) == MANY and now - self._recent[0] <= WINDOW_SECONDS
        if not are_many or now < self._quiet_until:
            return None
        counted = {"failed_log_ins": self._uncounted, "accounts": [*self._names]}
        self._uncounted, self._names, self._quiet_until = 0, {}, now + QUIET_SECONDS
        return counted


def count_failed_log_ins(workbench: Workbench) -> None:
    """Install the count in the base of all of JupyterHub's handlers; call it after ``confirm_orders``."""
    BaseHandler.login_user = _with_count(BaseHandler.login_user, workbench, FailedLogIns())


def _with_count(log_in: LogIn, workbench: Workbench, failures: FailedLogIns) -> LogIn:
    async def log_in_and_count(handler: BaseHandler, data: Any = None) -> User | None:  # noqa: ANN401
        try:
            user = await log_in(handler, data)
        except web.HTTPError:
            await _count(handler, data, workbench, failures)
            raise
        if user is None:
            await _count(handler, data, workbench, failures)
        return user

    return log_in_and_count


async def _count(
    handler: BaseHandler,
    data: Any,  # noqa: ANN401
    workbench: Workbench,
    failures: FailedLogIns,
) -> None:
    typed = str((data or {}).get("username", ""))
    name = handler.authenticator.normalize_username(typed)
    is_known = handler.db.query(orm.User.id).filter_by(name=name).first() is not None
    counted = failures.add(name if is_known else None, time.monotonic())
    if counted is None:
        return
    entry = TrailEntry(workbench.clock(), HUB, TrailAction.LOG_INS_FAILED, "log-in", after=counted)
    try:
        await asyncio.to_thread(workbench.ledger.record_entry, entry)
    except Unknown as error:
        # the log-in page answers without the ledger too
        log.warning(
            "log_ins=failed count=%d state=unrecorded reason=%s", counted["failed_log_ins"], error
        )
