"""Activity reports: send the activity of kernels and terminals to the hub, which releases idle GPUs.

JupyterHub's own record is not enough: an open page counts there, a kernel that computes without output does not.
An unreadable value is reported as unknown, never as quiet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gpu_panel.hub import HubError
from gpu_panel.lease import LeaseWatch
from gpu_panel.message import Activity
from gpu_panel.notices import Notices

PERIOD_SECONDS = 60.0
PERIOD_WITHOUT_GPUS_SECONDS = 600.0
"""The period of a server without GPUs, whose reports carry its notices alone."""

IDLE_PERIOD_SECONDS = 10.0
"""The period while an idle release is due: the hub releases GPUs only on a recent report."""


class Reporter:
    """Sends reports as long as the server runs: rarely without GPUs, and soon after a new notice."""

    def __init__(
        self,
        lease: LeaseWatch,
        read: Callable[[], Activity],
        log: logging.Logger,
        period_seconds: float = PERIOD_SECONDS,
        notices: Notices | None = None,
    ) -> None:
        self._notices = notices
        self._lease = lease
        self._read = read
        self._log = log
        self._period_seconds = period_seconds

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            pause = self._period_seconds
            notices = () if self._notices is None else self._notices.all
            try:
                lease = await self._lease.report(replace(self._read(), notices=notices))
                if lease.state is not None and not lease.gpu_count:
                    pause = PERIOD_WITHOUT_GPUS_SECONDS
                if lease.idle_seconds_left is not None:
                    pause = min(pause, IDLE_PERIOD_SECONDS)
            except HubError as error:
                self._log.debug("activity report failed: reason=%s", error)
            await self._wait(pause, notices)

    async def _wait(self, seconds: float, reported: tuple[str, ...]) -> None:
        """Wait for so long, or one period after a notice that is not among those ``reported``."""
        while seconds > 0:
            step = min(seconds, self._period_seconds)
            await asyncio.sleep(step)
            seconds -= step
            if self._notices is not None and self._notices.all != reported:
                return


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
