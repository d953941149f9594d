"""Tells the hub whether kernels and terminals of this server do anything, so that idle GPUs can be given back.

JupyterHub's own activity does not say so much: an open page counts as activity there, and a kernel that computes in
silence does not. What cannot be read is unknown, and never called quiet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from gpu_panel.hub import HubError
from gpu_panel.lease import LeaseWatch
from gpu_panel.message import Activity

PERIOD_SECONDS = 60.0
SOON_SECONDS = 10.0
"""The period while the hub means to give GPUs back: it takes nobody's on an old word."""


class Reporter:
    """The one who speaks, for as long as the server lives and its lease has GPUs."""

    def __init__(
        self,
        lease: LeaseWatch,
        read: Callable[[], Activity],
        log: logging.Logger,
        period_seconds: float = PERIOD_SECONDS,
    ) -> None:
        self._lease = lease
        self._read = read
        self._log = log
        self._period_seconds = period_seconds

    async def run(self) -> None:
        """Report until the hub says that this server has no GPU."""
        while True:
            pause = self._period_seconds
            try:
                lease = await self._lease.report(self._read())
                if lease.state is not None and not lease.gpu_count:
                    return
                if lease.idle_seconds_left is not None:
                    pause = min(pause, SOON_SECONDS)
            except HubError as error:
                self._log.debug("GPU panel: the hub does not hear what this server does: %s", error)
            await asyncio.sleep(pause)


def read_activity(settings: Mapping[str, Any], now: datetime) -> Activity:
    """Return what the kernels and terminals of a server with these tornado ``settings`` do ``now``."""
    started = settings.get("started")
    return Activity(
        busy_kernels=_count_busy(settings.get("kernel_manager")),
        kernels_quiet_seconds=_find_quiet(
            settings.get("kernel_manager"), "list_kernels", started, now
        ),
        terminals_quiet_seconds=_find_quiet(settings.get("terminal_manager"), "list", started, now)
        if settings.get("terminals_available")
        else _seconds(started, now),
    )


def now() -> datetime:
    """Return the time by the clock of kernels and terminals."""
    return datetime.now(UTC)


def _count_busy(manager: Any) -> int | None:  # noqa: ANN401
    try:
        return sum(kernel["execution_state"] == "busy" for kernel in manager.list_kernels())
    except (AttributeError, KeyError, TypeError):
        return None


def _find_quiet(manager: Any, names: str, started: Any, now: datetime) -> float | None:  # noqa: ANN401
    try:
        every = getattr(manager, names)()
        times = [datetime.fromisoformat(one["last_activity"]) for one in every]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return _seconds(max(times), now) if times else _seconds(started, now)


def _seconds(since: Any, now: datetime) -> float | None:  # noqa: ANN401
    """Return how long ago that was; a clock that was set back makes it now."""
    return max((now - since).total_seconds(), 0.0) if isinstance(since, datetime) else None
