"""Activity reports: send the activity of kernels and terminals to the hub, which releases idle GPUs.

JupyterHub's own record is not enough: an open page counts there, a kernel that computes without output does not.
An unreadable value is reported as unknown, never as quiet.
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
IDLE_PERIOD_SECONDS = 10.0
"""The period while an idle release is due: the hub releases GPUs only on a recent report."""


class Reporter:
    """Sends reports as long as the server runs and its lease has GPUs."""

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
                    pause = min(pause, IDLE_PERIOD_SECONDS)
            except HubError as error:
                self._log.debug("activity report failed: reason=%s", error)
            await asyncio.sleep(pause)


def read_activity(settings: Mapping[str, Any], now: datetime) -> Activity:
    """Return the activity of kernels and terminals at ``now``, from the server's tornado ``settings``."""
    started = settings.get("started")
    return Activity(
        busy_kernels=_count_busy(settings.get("kernel_manager")),
        kernels_quiet_seconds=_get_quiet_seconds(
            settings.get("kernel_manager"), "list_kernels", started, now
        ),
        terminals_quiet_seconds=_get_quiet_seconds(
            settings.get("terminal_manager"), "list", started, now
        )
        if settings.get("terminals_available")
        else _seconds(started, now),
    )


def now() -> datetime:
    """Return the time in UTC, as kernels and terminals record it."""
    return datetime.now(UTC)


def _count_busy(manager: Any) -> int | None:  # noqa: ANN401
    try:
        states = [kernel["execution_state"] for kernel in manager.list_kernels()]
    except (AttributeError, KeyError, TypeError):
        return None
    return states.count("busy")


def _get_quiet_seconds(manager: Any, names: str, started: Any, now: datetime) -> float | None:  # noqa: ANN401
    try:
        every = getattr(manager, names)()
        times = [datetime.fromisoformat(one["last_activity"]) for one in every]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return _seconds(max(times), now) if times else _seconds(started, now)


def _seconds(since: Any, now: datetime) -> float | None:  # noqa: ANN401
    """Return the seconds since ``since``, at least 0: the clock may have been set back."""
    return max((now - since).total_seconds(), 0.0) if isinstance(since, datetime) else None
