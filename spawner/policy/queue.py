"""The waiting room's rule: who is next, who may pass whom, and when each turn will come.

A pure function over (waiting, leases, GPUs, use, now). Nobody passes anybody whose start would move: every place
before one's own has its GPUs reserved first, at the earliest time at which enough of them are free. Whole GPUs, and
the MIG instances of each profile, have a line each, and none of them is in another's way.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from spawner.model import Gpu, GpuHealth, Lease, QueueEnd, Reason, Refused
from spawner.policy.placement import FreeGpus

PLANNED_POSITIONS = 100
"""How many from the front are planned; who stands behind them waits without an estimate."""

OVERDUE_SECONDS = 60.0
"""A lease whose time is over, or that is closing, is expected to be gone this much later."""

PATIENCE_SECONDS = 24 * 3600.0
"""Who has waited this long goes before everyone who has not, first come first: nobody starves."""

PRESENT_SECONDS = 60.0
"""Who waited no longer than this still looks at the page: the server is theirs without another sign."""

_ID, _REQUESTED_AT, _PRIORITY = map(attrgetter, ("id", "requested_at", "priority"))


@dataclass(frozen=True)
class QueuePlan:
    """What becomes of everyone who waits, by lease id.

    ``grants`` are the UUIDs of what each gets whose turn is now. All others go on waiting in ``queues``, in order, one
    for each ``mig_profile``; ``starts_at`` has the turns that can be foreseen.
    """

    grants: Mapping[str, tuple[str, ...]]
    queues: Mapping[str | None, Sequence[str]]
    starts_at: Mapping[str, float]


def is_present(lease: Lease, now: float) -> bool:
    """Return whether the one who asked is taken to be there when ``lease`` is granted ``now``."""
    return now - lease.requested_at <= PRESENT_SECONDS


def plan_queue(
    waiting: Sequence[Lease],
    *,
    leases: Sequence[Lease],
    gpus: Sequence[Gpu],
    use: Mapping[int, float],
    now: float,
) -> QueuePlan:
    """Return what becomes of those ``waiting``, who stand in order of first come.

    ``leases`` hold GPUs; ``use`` is everyone's recent GPU-hours, decayed, by uid. Times are seconds of the lease clock.
    """
    pools = _look_at(gpus, _foresee_ends(leases, now))
    lines: dict[str | None, list[Lease]] = {}
    for lease in waiting:
        lines.setdefault(lease.mig_profile, []).append(lease)
    grants: dict[str, tuple[str, ...]] = {}
    queues: dict[str | None, list[str]] = {}
    starts_at: dict[str, float] = {}
    for profile, alike in lines.items():
        order = order_queue(alike, use=use, now=now)
        pool = pools.get(profile) or _Pool([], [])
        starts = _plan_starts(order, pool, now)
        due = [lease for lease, start in starts if start == now]
        if due:  # of everyone else's GPUs only the number matters
            free = FreeGpus(pool.free)
            for lease in due:
                grants[lease.id] = tuple(gpu.uuid for gpu in free.take(lease.gpu_count))
        starts_at |= {lease.id: start for lease, start in starts if start != now}
        queues[profile] = [lease_id for lease_id in map(_ID, order) if lease_id not in grants]
    return QueuePlan(grants, queues, starts_at)


def order_queue(waiting: Sequence[Lease], *, use: Mapping[int, float], now: float) -> list[Lease]:
    """Return ``waiting``, who stand in order of first come, by patience, priority, least recent use, first come."""
    patient = bisect_right(waiting, now - PATIENCE_SECONDS, key=_REQUESTED_AT)
    others = list(waiting[patient:])
    # each sort keeps the order of those whom it finds equal
    others.sort(key=lambda lease: use.get(lease.uid, 0.0))
    others.sort(key=_PRIORITY, reverse=True)
    return [*waiting[:patient], *others]


def select_priority(
    lease: Lease, waiting: Sequence[Lease], *, to: QueueEnd, now: float
) -> int | Refused:
    """Return the priority with which ``lease`` goes before, or after, all others of its kind who are ``waiting``.

    Refused is who has waited so long that the order is by first come: an admin starves nobody either.
    """
    if now - lease.requested_at >= PATIENCE_SECONDS:
        return Refused(
            Reason.CANNOT_MOVE,
            f"{lease.user} has waited for more than {PATIENCE_SECONDS / 3600:g} hours: from then on "
            "only the order of first come counts.",
        )
    others = [
        one.priority
        for one in waiting
        if one.mig_profile == lease.mig_profile and one.id != lease.id
    ]
    if to is QueueEnd.FIRST:
        return max(lease.priority, max(others, default=lease.priority - 1) + 1)
    return min(lease.priority, min(others, default=lease.priority + 1) - 1)


def _foresee_ends(leases: Sequence[Lease], now: float) -> dict[str, float]:
    """Return when each held GPU is expected back."""
    soon = now + OVERDUE_SECONDS
    ends = {}
    for lease in leases:
        end = lease.ends_at if lease.ended_at is None else None
        for uuid in lease.gpu_uuids:
            ends[uuid] = soon if end is None or end < soon else end
    return ends


class _Pool(NamedTuple):
    """The healthy GPUs of one ``mig_profile``: those that are free, and when each of the others comes back."""

    free: list[Gpu]
    backs: list[float]


def _look_at(gpus: Sequence[Gpu], ends: Mapping[str, float]) -> dict[str | None, _Pool]:
    """Return the healthy ones of ``gpus`` by ``mig_profile``; those in ``ends`` are held until then."""
    pools: dict[str | None, _Pool] = {}
    ok = GpuHealth.OK
    for gpu in gpus:
        if gpu.health is not ok:
            continue
        pool = pools.get(gpu.mig_profile)
        if pool is None:
            pool = pools[gpu.mig_profile] = _Pool([], [])
        end = ends.get(gpu.uuid)
        if end is None:
            pool.free.append(gpu)
        else:
            pool.backs.append(end)
    return pools


def _plan_starts(order: Sequence[Lease], pool: _Pool, now: float) -> list[tuple[Lease, float]]:
    """Return when each of the front starts, of those for whom that can be foreseen."""
    # a request for more than work now waits without estimate: it reserves nothing, for nobody knows until when, and
    # so is passed by others; it keeps its place, and reserves from the moment at which its GPUs are back
    healthy = len(pool.free) + len(pool.backs)
    fitting = (lease for lease in order if lease.gpu_count <= healthy)
    planned = list(islice(fitting, PLANNED_POSITIONS))
    wanted = sum(lease.gpu_count for lease in planned)
    forecast = _Forecast(len(pool.free), pool.backs, wanted, now)
    starts = ((lease, forecast.reserve(lease.gpu_count, lease.hours * 3600.0)) for lease in planned)
    return [(lease, start) for lease, start in starts if start is not None]


class _Forecast:
    """How many GPUs will be free when: ``free[i]`` of them from ``times[i]`` until ``times[i + 1]``."""

    def __init__(self, free_now: int, backs: list[float], wanted: int, now: float) -> None:
        """Look as far ahead as it takes until ``wanted`` GPUs, all that will be reserved, are free at once.

        ``backs`` is when each of the held GPUs comes back, in no order.
        """
        self.times, self.free = [now], [free_now]
        self._head = 0  # before it nothing is free, and never will be again
        for back in heapq.nsmallest(wanted - free_now, backs):
            if back != self.times[-1]:
                self.times.append(back)
                self.free.append(self.free[-1])
            self.free[-1] += 1

    def reserve(self, count: int, seconds: float) -> float | None:
        """Take ``count`` GPUs for ``seconds`` at the earliest time they are free; None when they never are."""
        first = self._head
        while first < len(self.times):
            if self.free[first] < count:
                first += 1
                continue
            until = self.times[first] + seconds
            stop = bisect_left(self.times, until)
            steps = range(stop - 1, first, -1)
            # the last step at which too few are free: whoever starts before its end would meet it too
            short = next((i for i in steps if self.free[i] < count), None)
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
