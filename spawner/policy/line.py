"""The waiting room's rule: who is next, who may pass whom, and when each turn will come.

A pure function over (waiting, leases, GPUs, use, now). Nobody passes anybody whose start would move: every place
before one's own has its GPUs reserved first, at the earliest time at which enough of them are free.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from spawner.model import Gpu, GpuHealth, Lease, Place

PLANNED_PLACES = 100
"""How many places from the front are planned; who stands behind them waits without an estimate."""

OVERDUE_SECONDS = 60.0
"""A lease whose time is over is expected to be gone this much later."""

PATIENCE_SECONDS = 24 * 3600.0
"""Who has waited this long goes before everyone who has not, first come first: nobody starves."""


def plan_line(
    waiting: Sequence[Lease],
    *,
    leases: Sequence[Lease],
    gpus: Sequence[Gpu],
    use: Mapping[str, float],
    now: float,
) -> tuple[Place, ...]:
    """Return everyone's place, in order; those with ``gpu_uuids`` get them now.

    ``leases`` hold GPUs; ``use`` is each user's recent GPU-hours, decayed. Times are seconds since the Unix epoch.
    """
    held = {uuid for lease in leases for uuid in lease.gpu_uuids}
    free = [
        gpu.uuid
        for gpu in sorted(gpus, key=lambda gpu: gpu.index)
        if gpu.uuid not in held and gpu.health is GpuHealth.OK
    ]
    front = heapq.nsmallest(
        PLANNED_PLACES, waiting, key=lambda lease: _turn(lease, use.get(lease.user, 0.0), now)
    )
    forecast = _Forecast(len(free), leases, now)
    places = []
    for position, lease in enumerate(front, start=1):
        starts_at = forecast.reserve(lease.gpu_count, lease.hours * 3600.0)
        granted = None
        if starts_at == now and lease.gpu_count <= len(free):
            granted, free = tuple(free[: lease.gpu_count]), free[lease.gpu_count :]
        places.append(Place(lease.id, position, starts_at, granted))
    planned = {lease.id for lease in front}
    behind = sorted(
        (lease for lease in waiting if lease.id not in planned), key=lambda lease: lease.requested_at
    )
    unplanned = (
        Place(lease.id, position, None, None)
        for position, lease in enumerate(behind, start=len(places) + 1)
    )
    return (*places, *unplanned)


def _turn(lease: Lease, used: float, now: float) -> tuple[int, int, float, float, str]:
    if now - lease.requested_at >= PATIENCE_SECONDS:
        return (0, 0, 0.0, lease.requested_at, lease.id)
    return (1, -lease.priority, used, lease.requested_at, lease.id)


class _Forecast:
    """How many GPUs will be free when: ``free[i]`` of them from ``times[i]`` until ``times[i + 1]``."""

    def __init__(self, free_now: int, leases: Sequence[Lease], now: float) -> None:
        ends = sorted(
            (max(lease.ends_at or 0.0, now + OVERDUE_SECONDS), len(lease.gpu_uuids))
            for lease in leases
            if lease.gpu_uuids
        )
        self.times, self.free = [now], [free_now]
        for ends_at, count in ends:
            if ends_at != self.times[-1]:
                self.times.append(ends_at)
                self.free.append(self.free[-1])
            self.free[-1] += count

    def reserve(self, count: int, seconds: float) -> float | None:
        """Take ``count`` GPUs for ``seconds`` at the earliest time they are free; None when they never are."""
        first = 0
        while first < len(self.times):
            stop = bisect_left(self.times, self.times[first] + seconds)
            short = next((i for i in range(first, stop) if self.free[i] < count), None)
            if short is None:
                starts_at = self.times[first]
                self._take(count, first, starts_at + seconds)
                return starts_at
            first = short + 1
        return None

    def _take(self, count: int, first: int, until: float) -> None:
        stop = bisect_left(self.times, until)
        if stop == len(self.times) or self.times[stop] != until:
            self.times.insert(stop, until)
            self.free.insert(stop, self.free[stop - 1])
        for step in range(first, stop):
            self.free[step] -= count
