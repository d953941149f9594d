"""GPU-hours held and used: how spans of time fall on days, and how they add up.

Held is the lease's own word, used is what was measured; what nobody measured is neither use nor idleness and is
shown as such. Days are UTC's, as the lease clock has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

DAY_SECONDS = 86400
BRIDGED_PERIODS = 3
"""For so many sample periods without a sample, the next one speaks for all of the time since the last."""


class GroupBy(StrEnum):
    """What usage is added up by."""

    USER = "user"
    GROUP = "group"
    DAY = "day"
    GPU = "gpu"
    RELEASE = "release"


@dataclass(frozen=True)
class UsageSpan:
    """One GPU in one lease on one day (``day`` counts from 1970, UTC).

    It was held for ``held_seconds``; of ``measured_seconds`` of these it computed during ``used_seconds``.
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
    """GPU-hours of one user, group, day, GPU or release, which ``key`` names; ``label`` is that for people.

    ``used_gpu_hours`` is None where nothing was measured; ``unmeasured_gpu_hours`` is what of the time held nobody
    measured.
    """

    key: str
    label: str
    held_gpu_hours: float
    used_gpu_hours: float | None
    unmeasured_gpu_hours: float


def day_of(at: float) -> int:
    """Return the day on which ``at`` is."""
    return int(at // DAY_SECONDS)


def split_days(start: float, end: float) -> Iterator[tuple[int, float]]:
    """Yield each day from ``start`` to ``end`` with the seconds that fall on it; none where the end is not later."""
    while start < end:
        day = day_of(start)
        stop = min(end, float((day + 1) * DAY_SECONDS))
        yield day, stop - start
        start = stop


def measured_seconds(last: float, now: float, period_seconds: float) -> float:
    """Return for how many seconds before ``now`` a sample speaks, where the last one (or the grant) was at ``last``.

    After a longer silence it speaks for one period only: what was before is not known.
    """
    gap = max(now - last, 0.0)
    return gap if gap <= BRIDGED_PERIODS * period_seconds else period_seconds


def sum_usage(spans: Iterable[UsageSpan], by: GroupBy) -> tuple[UsageTotal, ...]:
    """Return the sums of ``spans``, days in order, all others by hours held; a user in two groups counts in both."""
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
    """Return everything in ``spans``, each once."""
    held = measured = used = 0.0
    for span in spans:
        held += span.held_seconds
        measured += span.measured_seconds
        used += span.used_seconds
    return _sum("total", "Total", held, measured, used)


def _keys(span: UsageSpan, by: GroupBy) -> Iterator[tuple[str, str]]:
    if by is GroupBy.USER:
        # two people may have had one name, one after the other
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
        # two clocks' worth of rounding never makes a time below zero
        unmeasured_gpu_hours=max(held - measured, 0.0) / 3600.0,
    )
