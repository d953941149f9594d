"""Usage: splits GPU time into UTC days and sums held, measured and used GPU-hours.

Held time comes from the leases, used time from measurements. Time without a measurement is neither used nor idle,
and pages show it separately. Days follow the lease clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

DAY_SECONDS = 86400
BRIDGED_PERIODS = 3
"""Longest gap, in sample periods, that the next sample covers completely."""


class GroupBy(StrEnum):
    """Grouping key of a usage report."""

    USER = "user"
    GROUP = "group"
    DAY = "day"
    GPU = "gpu"
    RELEASE = "release"


@dataclass(frozen=True)
class UsageSpan:
    """Time of one GPU in one lease on one day (``day`` counts from 1970-01-01, UTC).

    ``measured_seconds`` is the part of ``held_seconds`` with samples; ``used_seconds`` is the computing part of it.
    """

    day: int
    lease_id: str
    gpu_uuid: str
    uid: int
    user: str
    groups: tuple[str, ...]
    release: str
    held_seconds: float
    measured_seconds: float
    used_seconds: float


@dataclass(frozen=True)
class UsageTotal:
    """GPU-hours of one user, group, day, GPU or release; ``key`` identifies it and ``label`` is its display name.

    ``used_gpu_hours`` is None without a measurement. ``unmeasured_gpu_hours`` is the held time without a sample.
    """

    key: str
    label: str
    held_gpu_hours: float
    used_gpu_hours: float | None
    unmeasured_gpu_hours: float


def day_of(at: float) -> int:
    """Return the day of the time ``at``."""
    return int(at // DAY_SECONDS)


def split_days(start: float, end: float) -> Iterator[tuple[int, float]]:
    """Yield each day from ``start`` to ``end`` with its seconds; yield nothing if ``end`` is not after ``start``."""
    while start < end:
        day = day_of(start)
        stop = min(end, float((day + 1) * DAY_SECONDS))
        yield day, stop - start
        start = stop


def measured_seconds(last: float, now: float, period_seconds: float) -> float:
    """Return the seconds before ``now`` that a sample covers; ``last`` is the previous sample or the grant.

    After a gap longer than ``BRIDGED_PERIODS`` it covers one period only, because the time before is unknown.
    """
    gap = max(now - last, 0.0)
    return gap if gap <= BRIDGED_PERIODS * period_seconds else period_seconds


def sum_usage(spans: Iterable[UsageSpan], by: GroupBy) -> tuple[UsageTotal, ...]:
    """Return the totals of ``spans``: days in order, other keys by held hours; a user counts in each group."""
    totals: dict[str, list[float]] = {}
    labels: dict[str, str] = {}
    for span in spans:
        for key, label in _keys(span, by):
            labels[key] = label
            total = totals.setdefault(key, [0.0, 0.0, 0.0])
            total[0] += span.held_seconds
            total[1] += span.measured_seconds
            total[2] += span.used_seconds
    sums = [_sum(key, labels[key], *total) for key, total in totals.items()]
    if by is GroupBy.DAY:
        return tuple(sorted(sums, key=lambda one: int(one.key)))
    return tuple(sorted(sums, key=lambda one: (-one.held_gpu_hours, one.label)))


def total(spans: Iterable[UsageSpan]) -> UsageTotal:
    """Return the overall total; each span counts once."""
    held = measured = used = 0.0
    for span in spans:
        held += span.held_seconds
        measured += span.measured_seconds
        used += span.used_seconds
    return _sum("total", "Total", held, measured, used)


def _keys(span: UsageSpan, by: GroupBy) -> Iterator[tuple[str, str]]:
    if by is GroupBy.USER:
        # a deleted user and a new user may share a name, but never a uid
        yield str(span.uid), span.user
    elif by is GroupBy.DAY:
        yield str(span.day), str(span.day)
    elif by is GroupBy.GPU:
        yield span.gpu_uuid, span.gpu_uuid
    elif by is GroupBy.RELEASE:
        yield span.release, span.release
    else:
        yield from ((group, group) for group in span.groups)


def _sum(key: str, label: str, held: float, measured: float, used: float) -> UsageTotal:
    return UsageTotal(
        key=key,
        label=label,
        held_gpu_hours=held / 3600.0,
        used_gpu_hours=used / 3600.0 if measured else None,
        # rounding may put the measured time slightly above the held time
        unmeasured_gpu_hours=max(held - measured, 0.0) / 3600.0,
    )
