"""Week view: builds one user's own card on the GPU page: quota, use, and the hours of the last seven days."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from jupyterhub.user import User

from spawner.hub.identity import identify, quota_subject
from spawner.hub.views.quota import QuotaView, build_quota_view
from spawner.hub.workbench import Workbench
from spawner.policy.usage import DAY_SECONDS, day_of

DAYS = 7


@dataclass(frozen=True)
class Day:
    """GPU-hours held on one day (UTC); ``percent`` is relative to the busiest day, or to one hour if that is more."""

    on: date
    gpu_hours: float
    percent: float

    @property
    def name(self) -> str:
        """The weekday, such as ``Mon``."""
        return f"{self.on:%a}"


@dataclass(frozen=True)
class Week:
    """One user's quota with its use, and the last days."""

    quota: QuotaView
    days: tuple[Day, ...]

    @property
    def gpu_hours(self) -> float:
        """The GPU-hours of all days shown."""
        return sum(day.gpu_hours for day in self.days)


async def build_week_view(workbench: Workbench, user: User) -> Week:
    """Return the quota and the recent hours of ``user``; raises Unknown."""
    account = await asyncio.to_thread(workbench.ledger.account_by_identity, identify(user))
    now = workbench.clock()
    first = day_of(now) - DAYS + 1
    hours: dict[int, float] = {}
    if account is not None:
        hours = await asyncio.to_thread(
            workbench.ledger.held_by_day, account.uid, since=float(first * DAY_SECONDS), now=now
        )
    today = datetime.fromtimestamp(workbench.clock.to_wall(now), UTC).date()
    highest = max((1.0, *hours.values()))
    return Week(
        quota=await build_quota_view(workbench, quota_subject(user)),
        days=tuple(
            Day(
                today - timedelta(days=DAYS - 1 - at),
                hours.get(first + at, 0.0),
                100.0 * hours.get(first + at, 0.0) / highest,
            )
            for at in range(DAYS)
        ),
    )
