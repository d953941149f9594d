"""Queue planning: decides which requests start now, in which order the rest waits, and when each can start.

It is a pure function of (waiting, leases, GPUs, recent GPU-hours, now); each event of the workbench runs it again.

The order
---------
``order_queue`` sorts the waiting requests by four keys:

1. patience: a request that has waited 24 h goes before every other, first come first;
2. priority: an admin's choice in a quota row or a move in the queue, high before low;
3. fair share: fewer recent GPU-hours first (``spawner.policy.fair_share``, half weight after each half-life);
4. time of the request.

Keys 2 and 3 alone could starve a heavy user: requests of lighter users would go first without end. Key 1 bounds that.
A new request cannot have waited 24 h, so after 24 h only the older patient requests are ahead. An admin's move does
not change this either: ``select_priority`` refuses it for a patient request.

The plan: conservative backfill
-------------------------------
The requests reserve GPUs in this order, each at the earliest time with enough free GPUs for its *whole* time. A
request may overtake only if no earlier request starts later because of it. The reservations guarantee this: a later
request sees only the GPUs that the earlier ones leave over. A request whose earliest time is ``now`` is granted.

``_Forecast`` is a step function: the number of free GPUs over time. It starts with the free GPUs, and each held GPU
comes back at the end of its lease. An overdue or closing lease is expected to end in ``OVERDUE_SECONDS``. A
reservation subtracts GPUs over its time. Only the number counts here; ``spawner.policy.placement`` selects the GPUs.

Worked example: four GPUs, times in hours
-----------------------------------------
Lease X holds two GPUs until 2, and two GPUs are free. The queue in order: A wants 3 GPUs for 4 h, B 1 GPU for 2 h,
C 1 GPU for 3 h, D 2 GPUs for 1 h::

      time               0-2   2-3   3-6   6-7   7-
    - free at first       2     4     4     4     4
    - A: 3 GPUs at 2      2     1     1     4     4    two GPUs are free now, so A waits for X
    - B: 1 GPU at 0       1     1     1     4     4    granted: B ends at 2, when A starts
    - C: 1 GPU at 0       0     0     1     4     4    granted: C ends after 2, but A leaves one GPU over
    - D: 2 GPUs at 6      0     0     1     2     4    waits: two GPUs are never free before 6

B and C overtake A, and A starts at 2 as before. If B wanted 2 GPUs for 3 h, it would still hold them at 2, and A
would find two GPUs instead of three. The plan therefore gives that B the time 6. EASY backfill would protect only the
first request; conservative backfill protects every planned one, so each gets an estimate that later requests keep.

An estimate is not a promise. It moves earlier if a lease ends early, since a reservation uses the full time of a
request. It moves later if a request with a better key arrives, or if a GPU fails.

The limits of the plan
----------------------
- Each kind of GPU (whole GPUs, and each MIG profile) has its own queue and forecast. The kinds never compete.
- A request for more GPUs than are healthy reserves nothing, since the repair time is unknown. Others overtake it, it
  keeps its position, and it reserves again as soon as the GPUs are back.
- Only the first ``PLANNED_POSITIONS`` requests that fit reserve GPUs. The rest gets no estimate and no grant until it
  moves up. This bounds the cost of one plan.
- The forecast ends where all reserved GPUs are free at once; a later return cannot change a reservation.

``benchmarks/queue.py`` measures one plan for long queues, and ``tests/unit/policy/test_queue.py`` checks the rule of
overtaking against a slow, simple model.
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
"""Number of requests at the front that the plan covers; the rest waits without an estimate."""

OVERDUE_SECONDS = 60.0
"""Expected remaining time of an overdue or closing lease."""

PATIENCE_SECONDS = 24 * 3600.0
"""Waiting time after which a request goes before all younger ones, against starvation."""

PRESENT_SECONDS = 60.0
"""Waiting time up to which the user counts as present, so the grant needs no confirmation."""

_ID, _REQUESTED_AT, _PRIORITY = map(attrgetter, ("id", "requested_at", "priority"))


@dataclass(frozen=True)
class QueuePlan:
    """Outcome of a plan, by lease id.

    ``grants`` has the GPU UUIDs of each request that starts now. ``queues`` has the other requests in order, one queue
    for each ``mig_profile``. ``starts_at`` has the estimated start times.
    """

    grants: Mapping[str, tuple[str, ...]]
    queues: Mapping[str | None, Sequence[str]]
    starts_at: Mapping[str, float]


def is_present(lease: Lease, now: float) -> bool:
    """Return whether the user counts as present if ``lease`` is granted ``now``."""
    return now - lease.requested_at <= PRESENT_SECONDS


def plan_queue(
    waiting: Sequence[Lease],
    *,
    leases: Sequence[Lease],
    gpus: Sequence[Gpu],
    recent_gpu_hours: Mapping[int, float],
    now: float,
) -> QueuePlan:
    """Return the plan for the requests ``waiting``, which are in order of request time.

    ``leases`` hold GPUs. ``recent_gpu_hours`` has the decayed GPU-hours by uid. Times are seconds of the lease clock.
    """
    pools = _build_pools(gpus, _predict_ends(leases, now))
    by_profile: dict[str | None, list[Lease]] = {}
    for lease in waiting:
        by_profile.setdefault(lease.mig_profile, []).append(lease)
    grants: dict[str, tuple[str, ...]] = {}
    queues: dict[str | None, list[str]] = {}
    starts_at: dict[str, float] = {}
    for profile, requests in by_profile.items():
        order = order_queue(requests, recent_gpu_hours=recent_gpu_hours, now=now)
        pool = pools.get(profile) or _Pool([], [])
        starts = _plan_starts(order, pool, now)
        due = [lease for lease, start in starts if start == now]
        if due:  # reservations need a number only; grants need GPUs
            free = FreeGpus(pool.free)
            for lease in due:
                grants[lease.id] = tuple(gpu.uuid for gpu in free.take(lease.gpu_count))
        starts_at |= {lease.id: start for lease, start in starts if start != now}
        queues[profile] = [lease_id for lease_id in map(_ID, order) if lease_id not in grants]
    return QueuePlan(grants, queues, starts_at)


def order_queue(
    waiting: Sequence[Lease], *, recent_gpu_hours: Mapping[int, float], now: float
) -> list[Lease]:
    """Return ``waiting``, given in order of request time, by patience, priority, fair share and request time."""
    patient = bisect_right(waiting, now - PATIENCE_SECONDS, key=_REQUESTED_AT)
    others = list(waiting[patient:])
    # sorts are stable, so the last key sorts first
    others.sort(key=lambda lease: recent_gpu_hours.get(lease.uid, 0.0))
    others.sort(key=_PRIORITY, reverse=True)
    return [*waiting[:patient], *others]


def select_priority(
    lease: Lease, waiting: Sequence[Lease], *, to: QueueEnd, now: float
) -> int | Refused:
    """Return the priority that moves ``lease`` before, or after, all other ``waiting`` requests of its kind.

    A patient request is refused: its position depends on its request time only, so no move can starve it.
    """
    if now - lease.requested_at >= PATIENCE_SECONDS:
        return Refused(
            Reason.CANNOT_MOVE,
            f"{lease.user} has waited for more than {PATIENCE_SECONDS / 3600:g} hours and cannot be moved: after that "
            "time the order depends on the time of the request only.",
        )
    others = [
        one.priority
        for one in waiting
        if one.mig_profile == lease.mig_profile and one.id != lease.id
    ]
    if to is QueueEnd.FIRST:
        return max(lease.priority, max(others, default=lease.priority - 1) + 1)
    return min(lease.priority, min(others, default=lease.priority + 1) - 1)


def _predict_ends(leases: Sequence[Lease], now: float) -> dict[str, float]:
    """Return the expected end time of each held GPU, by UUID."""
    soon = now + OVERDUE_SECONDS
    ends = {}
    for lease in leases:
        end = lease.ends_at if lease.ended_at is None else None
        for uuid in lease.gpu_uuids:
            ends[uuid] = soon if end is None or end < soon else end
    return ends


class _Pool(NamedTuple):
    """The healthy GPUs of one ``mig_profile``: the free ones, and the expected end times of the held ones."""

    free: list[Gpu]
    ends: list[float]


def _build_pools(gpus: Sequence[Gpu], ends: Mapping[str, float]) -> dict[str | None, _Pool]:
    """Return the healthy GPUs by ``mig_profile``; ``ends`` has the end time of each held GPU."""
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
            pool.ends.append(end)
    return pools


def _plan_starts(order: Sequence[Lease], pool: _Pool, now: float) -> list[tuple[Lease, float]]:
    """Return the start times of the planned requests, in order."""
    # a request for more than the healthy GPUs reserves nothing: an unknown repair time would block all later requests
    healthy = len(pool.free) + len(pool.ends)
    fitting = (lease for lease in order if lease.gpu_count <= healthy)
    planned = list(islice(fitting, PLANNED_POSITIONS))
    wanted = sum(lease.gpu_count for lease in planned)
    forecast = _Forecast(len(pool.free), pool.ends, wanted, now)
    starts = ((lease, forecast.reserve(lease.gpu_count, lease.hours * 3600.0)) for lease in planned)
    return [(lease, start) for lease, start in starts if start is not None]


class _Forecast:
    """Number of free GPUs over time: ``free[i]`` from ``times[i]`` until ``times[i + 1]``."""

    def __init__(self, free_now: int, ends: list[float], wanted: int, now: float) -> None:
        """Build the steps up to the time at which ``wanted`` GPUs, the sum of all reservations, are free at once.

        ``ends`` has the expected end time of each held GPU, in any order.
        """
        self.times, self.free = [now], [free_now]
        self._head = 0  # no GPU is free before this step, and reservations never free one
        for end in heapq.nsmallest(wanted - free_now, ends):
            if end != self.times[-1]:
                self.times.append(end)
                self.free.append(self.free[-1])
            self.free[-1] += 1

    def reserve(self, count: int, seconds: float) -> float | None:
        """Reserve ``count`` GPUs for ``seconds`` and return the earliest start; None if there is none."""
        first = self._head
        while first < len(self.times):
            if self.free[first] < count:
                first += 1
                continue
            until = self.times[first] + seconds
            stop = bisect_left(self.times, until)
            steps = range(stop - 1, first, -1)
            # the last step with too few GPUs: every start up to its end would run into it
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
