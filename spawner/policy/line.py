"""The waiting room's rule: who is next, who may pass whom, and when each turn will come.

A pure function over (waiting, leases, GPUs, use, now). Nobody passes anybody whose start would move: every place
before one's own has its GPUs reserved first, at the earliest time at which enough of them are free.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import islice
from operator import attrgetter

from spawner.model import Gpu, GpuHealth, Lease, Place

_ID, _INDEX = attrgetter("id"), attrgetter("index")

PLANNED_PLACES = 100
"""How many from the front are planned; who stands behind them waits without an estimate."""

OVERDUE_SECONDS = 60.0
"""A lease whose time is over, or that is closing, is expected to be gone this much later."""

PATIENCE_SECONDS = 24 * 3600.0
"""Who has waited this long goes before everyone who has not, first come first: nobody starves."""

PRESENT_SECONDS = 60.0
"""Who waited no longer than this still looks at the page: the server is theirs without another sign."""


def is_present(lease: Lease, now: float) -> bool:
    """Return whether the one who asked is taken to be there when ``lease`` is granted ``now``."""
    return now - lease.requested_at <= PRESENT_SECONDS


def plan_line(
    waiting: Sequence[Lease],
    *,
    leases: Sequence[Lease],
    gpus: Sequence[Gpu],
    use: Mapping[str, float],
    now: float,
) -> tuple[Place, ...]:
    """Return everyone's place, in order; those with ``gpu_uuids`` get them now: the free ones of lowest index.

    ``leases`` hold GPUs; ``use`` is each user's recent GPU-hours, decayed. Times are seconds of the lease clock.
    """
    order = order_line(waiting, use=use, now=now)
    healthy = {gpu.uuid for gpu in gpus if gpu.health is GpuHealth.OK}
    held = {uuid for lease in leases for uuid in lease.gpu_uuids}
    unheld = healthy - held
    free = [gpu.uuid for gpu in sorted(gpus, key=_INDEX) if gpu.uuid in unheld] if unheld else []
    # a request for more than work now waits without estimate: it reserves nothing, for nobody knows until when, and
    # so is passed by others; it keeps its place, and reserves from the moment at which its GPUs are back
    fitting = (i for i, lease in enumerate(order) if lease.gpu_count <= len(healthy))
    planned = list(islice(fitting, PLANNED_PLACES))
    wanted = sum(order[i].gpu_count for i in planned)
    forecast = _Forecast(len(free), _list_ends(leases, held, healthy, now), wanted, now)
    starts: list[float | None] = [None] * len(order)
    grants: list[tuple[str, ...] | None] = [None] * len(order)
    for i in planned:
        count = order[i].gpu_count
        starts[i] = forecast.reserve(count, order[i].hours * 3600.0)
        if starts[i] == now:
            grants[i], free = tuple(free[:count]), free[count:]
    return tuple(map(Place, map(_ID, order), range(1, len(order) + 1), starts, grants))


def order_line(waiting: Sequence[Lease], *, use: Mapping[str, float], now: float) -> list[Lease]:
    """Return ``waiting`` in order: patience, priority, least recent use, first come."""
    patient_until = now - PATIENCE_SECONDS
    turns = [
        (0, 0, 0.0, lease.requested_at, lease.id, lease)
        if lease.requested_at <= patient_until
        else (1, -lease.priority, use.get(lease.user, 0.0), lease.requested_at, lease.id, lease)
        for lease in waiting
    ]
    turns.sort()  # ids differ: leases themselves are never compared
    return [turn[-1] for turn in turns]


def _list_ends(
    leases: Sequence[Lease], held: set[str], healthy: set[str], now: float
) -> list[tuple[float, int]]:
    """Return when how many healthy GPUs are given back, in no order."""
    soon = now + OVERDUE_SECONDS
    ends = [
        (
            soon
            if lease.ended_at is not None or (lease.ends_at or 0.0) < soon
            else lease.ends_at or soon,
            lease.gpu_uuids,
        )
        for lease in leases
        if lease.gpu_uuids
    ]
    if held <= healthy:
        return [(end, len(uuids)) for end, uuids in ends]
    return [(end, len(healthy.intersection(uuids))) for end, uuids in ends]


class _Forecast:
    """How many GPUs will be free when: ``free[i]`` of them from ``times[i]`` until ``times[i + 1]``."""

    def __init__(
        self, free_now: int, ends: list[tuple[float, int]], wanted: int, now: float
    ) -> None:
        """Look as far ahead as it takes until ``wanted`` GPUs, all that will be reserved, are free at once."""
        self.times, self.free = [now], [free_now]
        self._head = 0  # before it nothing is free, and never will be again
        heapq.heapify(ends)
        while ends and self.free[-1] < wanted:
            ends_at, count = heapq.heappop(ends)
            if ends_at != self.times[-1]:
                self.times.append(ends_at)
                self.free.append(self.free[-1])
            self.free[-1] += count

    def reserve(self, count: int, seconds: float) -> float | None:
        """Take ``count`` GPUs for ``seconds`` at the earliest time they are free; None when they never are."""
        first = self._head
        while first < len(self.times):
            if self.free[first] < count:
                first += 1
                continue
            until = self.times[first] + seconds
            stop = bisect_left(self.times, until)
            short = next((i for i in range(first, stop) if self.free[i] < count), None)
            if short is None:
                self._take(count, first, stop, until)
                return self.times[first]
            first = short + 1
        return None

    def _take(self, count: int, first: int, stop: int, until: float) -> None:
        if stop == len(self.times) or self.times[stop] != until:
            self.times.insert(stop, until)
            self.free.insert(stop, self.free[stop - 1])
        for step in range(first, stop):
            self.free[step] -= count
        while self._head < len(self.free) and self.free[self._head] == 0:
            self._head += 1
