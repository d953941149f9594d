"""Queue planning: order, reservations, overtaking, and no starvation."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spawner.model import Gpu, GpuHealth, Lease, LeaseState
from spawner.policy import queue
from spawner.policy.queue import (
    OVERDUE_SECONDS,
    PATIENCE_SECONDS,
    QueuePlan,
    order_queue,
    plan_queue,
)
from testing.factories import make_gpu, make_lease

HOUR = 3600.0
NOW = 1_000_000.0
MAX_HOURS = 8


def waits(
    name: str,
    gpus: int = 1,
    *,
    ago: float = 100.0,
    priority: int = 0,
    hours: float = 1.0,
    user: str = "",
) -> Lease:
    return make_lease(
        id=name,
        user=user or name,
        uid=uid_of(user or name),
        gpu_count=gpus,
        hours=hours,
        priority=priority,
        state=LeaseState.WAITING,
        requested_at=NOW - ago,
        granted_at=None,
    )


def uid_of(user: str) -> int:
    return sum(map(ord, user))


def by_uid(use: Mapping[str, float]) -> dict[int, float]:
    return {uid_of(user): hours for user, hours in use.items()}


def holds(name: str, *indices: int, ends_in: float = HOUR) -> Lease:
    uuids = tuple(make_gpu(index).uuid for index in indices)
    return make_lease(
        id=name,
        user=name,
        uid=uid_of(name),
        gpu_uuids=uuids,
        state=LeaseState.RUNNING,
        ends_at=NOW + ends_in,
    )


def first_come(waiting: Sequence[Lease]) -> list[Lease]:
    """Return ``waiting`` as the ledger hands them over."""
    return sorted(waiting, key=lambda lease: (lease.requested_at, lease.id))


def plan(
    waiting: Sequence[Lease], *leases: Lease, gpus: int | Sequence[Gpu] = 4, **use: float
) -> QueuePlan:
    host = [make_gpu(i) for i in range(gpus)] if isinstance(gpus, int) else gpus
    return plan_queue(
        first_come(waiting), leases=leases, gpus=host, recent_gpu_hours=by_uid(use), now=NOW
    )


def outcome(
    waiting: Sequence[Lease], *leases: Lease, gpus: int | Sequence[Gpu] = 4
) -> dict[str, float | tuple[int, ...] | None]:
    """Return of each id the indices granted, or in how many hours it starts, or None; those granted first."""
    planned = plan(waiting, *leases, gpus=gpus)
    granted = {
        lease_id: tuple(int(uuid[-12:]) for uuid in uuids)
        for lease_id, uuids in planned.grants.items()
    }
    starts = planned.starts_at
    waits_on = {
        lease_id: (starts[lease_id] - NOW) / HOUR if lease_id in starts else None
        for queue in planned.queues.values()
        for lease_id in queue
    }
    assert not granted.keys() & waits_on.keys()
    return granted | waits_on


def order(waiting: Sequence[Lease], **use: float) -> str:
    return "".join(plan(waiting, gpus=0, **use).queues[None])


# --- order


def test_the_order_is_priority_then_least_use_then_first_come_then_id() -> None:
    line_up = [waits("d", ago=1), waits("c", ago=1), waits("b", ago=5), waits("a", ago=9)]
    assert order(line_up) == "abcd"
    assert order(line_up, a=3.0, b=2.0, c=2.5) == "dbca"
    line_up[0] = replace(line_up[0], priority=1)
    assert order(line_up, d=9.0) == "dabc"
    assert order([replace(waits("e", ago=99), priority=-1), *line_up]) == "dabce"


def test_who_waited_a_day_goes_first_and_first_come_among_them() -> None:
    patient = [
        waits("p", ago=PATIENCE_SECONDS, priority=-5),
        waits("q", ago=PATIENCE_SECONDS + 1, priority=-9),
    ]
    eager = waits("e", ago=PATIENCE_SECONDS - 1, priority=9)
    assert order([eager, *patient], p=0.0, q=1e9) == "qpe"


# --- grants and estimates


def test_the_free_gpus_of_lowest_index_are_given() -> None:
    gpus = [make_gpu(3), make_gpu(0), make_gpu(2, GpuHealth.LOST), make_gpu(1)]
    two = [waits("a", 1, ago=2), waits("b", 1, ago=1)]
    assert outcome(two, holds("x", 0), gpus=gpus) == {"a": (1,), "b": (3,)}


def test_an_estimate_is_the_end_of_the_leases_that_have_to_end() -> None:
    held = (holds("x", 0, 1, ends_in=2 * HOUR), holds("y", 2, 3, ends_in=HOUR))
    three = [waits("a", 3, ago=3), waits("b", 4, ago=2), waits("c", 1, ago=1, hours=3)]
    assert outcome(three, *held) == {"a": 2.0, "b": 3.0, "c": 4.0}


def test_an_overdue_or_closing_lease_is_expected_to_be_gone_soon() -> None:
    overdue = holds("x", 0, ends_in=-HOUR)
    closing = replace(holds("y", 1, ends_in=5 * HOUR), state=LeaseState.CLOSING, ended_at=NOW - 5)
    soon = OVERDUE_SECONDS / HOUR
    assert outcome([waits("a", 2)], overdue, closing, gpus=2) == {"a": soon}


def test_a_smaller_request_passes_where_it_is_back_in_time() -> None:
    held = holds("x", 0, 1, 2, ends_in=2 * HOUR)
    big = waits("big", 4, ago=9)
    short, long = waits("short", 1, ago=2, hours=2), waits("long", 1, ago=1, hours=2.1)
    assert outcome([big, short], held) == {"big": 2.0, "short": (3,)}
    assert outcome([big, long], held) == {"big": 2.0, "long": 3.0}


def test_the_example_of_the_essay() -> None:
    held = holds("x", 0, 1, ends_in=2 * HOUR)
    a, d = waits("a", 3, ago=4, hours=4), waits("d", 2, ago=1, hours=1)
    b, c = waits("b", 1, ago=3, hours=2), waits("c", 1, ago=2, hours=3)
    assert outcome([a, b, c, d], held) == {"b": (2,), "c": (3,), "a": 2.0, "d": 6.0}
    assert outcome([a, waits("b", 2, ago=3, hours=3)], held) == {"a": 2.0, "b": 6.0}


def test_more_than_work_now_waits_without_estimate_and_is_in_no_ones_way() -> None:
    gpus = [make_gpu(0), make_gpu(1, GpuHealth.LOST)]
    waiting = [waits(f"big{i:03}", 2, ago=500 - i) for i in range(queue.PLANNED_POSITIONS + 5)]
    places = outcome([*waiting, waits("small", 1, ago=1)], gpus=gpus)
    assert places["big000"] is None
    assert places["small"] == (0,)
    assert outcome([*waiting, waits("small", 1, ago=1)], gpus=2)["big000"] == (0, 1)


def test_a_sick_gpu_that_is_given_back_counts_for_no_one() -> None:
    gpus = [make_gpu(0, GpuHealth.LOST), make_gpu(1)]
    held = (holds("x", 0, ends_in=HOUR), holds("y", 1, ends_in=2 * HOUR))
    assert outcome([waits("a", 1)], *held, gpus=gpus) == {"a": 2.0}


def test_a_far_position_has_a_place_but_no_estimate() -> None:
    waiting = [waits(f"{i:04}", 1, ago=1000 - i) for i in range(queue.PLANNED_POSITIONS + 1)]
    planned = plan(waiting, holds("x", 0), gpus=1)
    assert list(planned.queues[None]) == [lease.id for lease in waiting]
    assert set(planned.starts_at) == {lease.id for lease in waiting[:-1]}


# --- properties

gpu_sets = st.sets(st.integers(0, 5))


@st.composite
def situations(
    draw: st.DrawFn,
) -> tuple[list[Lease], list[Lease], list[Gpu], dict[str, float]]:
    sick = draw(gpu_sets)
    gpus = [make_gpu(i, GpuHealth.LOST if i in sick else GpuHealth.OK) for i in range(6)]
    holding: list[Lease] = []
    left = sorted(draw(gpu_sets))
    while left:
        count = draw(st.integers(1, len(left)))
        taken, left = left[:count], left[count:]
        ends_in = draw(st.integers(-1, 5)) * HOUR
        holding.append(holds(f"h{len(holding)}", *taken, ends_in=ends_in))
    waiting = [
        waits(
            f"w{i}",
            draw(st.integers(1, 6)),
            ago=draw(st.integers(0, 30)) * HOUR,
            priority=draw(st.integers(-1, 1)),
            hours=draw(st.integers(1, MAX_HOURS)),
            user=draw(st.sampled_from("abc")),
        )
        for i in range(draw(st.integers(0, 8)))
    ]
    use = draw(st.dictionaries(st.sampled_from("abc"), st.floats(0, 100)))
    return waiting, holding, gpus, use


def reserve_naively(
    asked: Sequence[Lease], holding: Sequence[Lease], gpus: Sequence[Gpu]
) -> list[float | None]:
    """Return each one's start: the first moment from which so many GPUs stay free; trying them all."""
    healthy = {gpu.uuid for gpu in gpus if gpu.health is GpuHealth.OK}
    soon = NOW + OVERDUE_SECONDS
    taken = [
        (NOW, max(lease.ends_at or 0.0, soon), len(healthy & set(lease.gpu_uuids)))
        for lease in holding
    ]
    starts: list[float | None] = []
    for lease in asked:
        moments = sorted({NOW, *(end for _, end, _ in taken)})
        length, start = lease.hours * HOUR, None
        for moment in moments:
            checks = [
                moment,
                *(begin for begin, _, _ in taken if moment <= begin < moment + length),
            ]
            used = max(sum(n for b, e, n in taken if b <= check < e) for check in checks)
            if used + lease.gpu_count <= len(healthy):
                start = moment
                break
        starts.append(start)
        if start is not None:
            taken.append((start, start + length, lease.gpu_count))
    return starts


Situation = tuple[list[Lease], list[Lease], list[Gpu], dict[str, float]]


def starts_of(order: Sequence[Lease], planned: QueuePlan) -> list[float | None]:
    return [
        NOW if lease.id in planned.grants else planned.starts_at.get(lease.id) for lease in order
    ]


@given(situations())
@settings(max_examples=300)
def test_reservations_are_those_of_the_naive_rule(situation: Situation) -> None:
    waiting, holding, gpus, use = situation
    in_order = order_queue(first_come(waiting), recent_gpu_hours=by_uid(use), now=NOW)
    planned = plan(waiting, *holding, gpus=gpus, **use)
    assert starts_of(in_order, planned) == reserve_naively(in_order, holding, gpus)


@given(situations(), st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_what_a_plan_gives_out(situation: Situation, rng: random.Random) -> None:
    waiting, holding, gpus, use = situation
    planned = plan(waiting, *holding, gpus=gpus, **use)
    in_order = order_queue(first_come(waiting), recent_gpu_hours=by_uid(use), now=NOW)
    behind = [lease.id for lease in in_order if lease.id not in planned.grants]
    assert planned.queues == ({None: behind} if waiting else {})
    assert planned.starts_at.keys() <= set(behind)

    given_out = [uuid for uuids in planned.grants.values() for uuid in uuids]
    held = {uuid for lease in holding for uuid in lease.gpu_uuids}
    healthy = {gpu.uuid for gpu in gpus if gpu.health is GpuHealth.OK}
    assert len(given_out) == len(set(given_out))
    assert set(given_out) <= healthy - held
    counts = {lease.id: lease.gpu_count for lease in waiting}
    assert all(len(uuids) == counts[lease_id] for lease_id, uuids in planned.grants.items())

    for mixed in (holding, gpus):
        rng.shuffle(mixed)
    assert plan(waiting, *holding, gpus=gpus, **use) == planned

    front = in_order[: rng.randint(0, len(in_order))]
    alone = plan(front, *holding, gpus=gpus, **use)
    assert starts_of(front, alone) == starts_of(front, planned), (
        "whoever stands behind moves nobody's start"
    )


PROFILE = "1g.10gb"


def divide(situation: Situation) -> Situation:
    """Return ``situation`` with MIG instances in the place of GPUs, four of one GPU, and other ids."""
    waiting, holding, gpus, use = situation

    def rename(lease: Lease) -> Lease:
        uuids = tuple(uuid.replace("GPU", "MIG") for uuid in lease.gpu_uuids)
        return replace(lease, id=f"mig-{lease.id}", mig_profile=PROFILE, gpu_uuids=uuids)

    parts = [
        replace(
            gpu,
            uuid=gpu.uuid.replace("GPU", "MIG"),
            index=gpu.index // 4,
            mig_index=gpu.index % 4,
            mig_profile=PROFILE,
        )
        for gpu in gpus
    ]
    return [*map(rename, waiting)], [*map(rename, holding)], parts, use


@given(situations(), situations())
def test_mig_instances_have_a_line_of_their_own(whole: Situation, other: Situation) -> None:
    waiting, holding, gpus, use = whole
    mig_waiting, mig_holding, instances, _ = divide(other)
    first = plan(waiting, *holding, gpus=gpus, **use)
    second = plan(mig_waiting, *mig_holding, gpus=instances, **use)
    both = plan([*mig_waiting, *waiting], *holding, *mig_holding, gpus=[*instances, *gpus], **use)
    assert both == QueuePlan(
        {**first.grants, **second.grants},
        {**first.queues, **second.queues},
        {**first.starts_at, **second.starts_at},
    )


# --- no starvation


class Simulation:
    """Four GPUs, hour by hour; leases last exactly as long as they asked for."""

    def __init__(self, waiting: Sequence[Lease]) -> None:
        self.now = NOW
        self.waiting = list(waiting)
        self.holding: list[Lease] = []

    def step(self, arrivals: Sequence[Lease], use: dict[str, float]) -> None:
        self.holding = [lease for lease in self.holding if (lease.ends_at or 0.0) > self.now]
        self.waiting += [replace(lease, requested_at=self.now) for lease in arrivals]
        gpus = [make_gpu(i) for i in range(4)]
        planned = plan_queue(
            first_come(self.waiting),
            leases=self.holding,
            gpus=gpus,
            recent_gpu_hours=by_uid(use),
            now=self.now,
        )
        for lease in self.waiting:
            if lease.id in planned.grants:
                ends_at = self.now + lease.hours * HOUR
                held = replace(lease, gpu_uuids=planned.grants[lease.id], ends_at=ends_at)
                self.holding.append(held)
        self.waiting = [lease for lease in self.waiting if lease.id not in planned.grants]
        self.now += HOUR


OLDER = 2
LIMIT_HOURS = int(PATIENCE_SECONDS / HOUR) + (OLDER + 1) * MAX_HOURS + 1


def hours_waited(arrivals: Sequence[Sequence[tuple[int, int, int]]], gpus: int) -> int | None:
    """Return after how many hours the victim was granted; None when the simulated time did not suffice."""
    victim = waits("victim", gpus, ago=0.5, priority=-9, hours=MAX_HOURS)
    older = [waits(f"older{i}", 4, ago=1 + i, hours=MAX_HOURS) for i in range(OLDER)]
    simulation = Simulation([victim, *older])
    for hour in range(LIMIT_HOURS + 1):
        waiting = [
            waits(f"{hour}-{i}", count, priority=priority, hours=hours, user="fresh")
            for i, (count, hours, priority) in enumerate(arrivals[hour % len(arrivals)])
        ]
        simulation.step(waiting, {"victim": 1e6})
        if victim.id not in {lease.id for lease in simulation.waiting}:
            return hour
    return None


arrivals_each_hour = st.lists(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, MAX_HOURS), st.integers(0, 9)), max_size=4
    ),
    min_size=1,
    max_size=24,
)


@given(arrivals_each_hour, st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_no_request_starves(arrivals: list[list[tuple[int, int, int]]], gpus: int) -> None:
    assert hours_waited(arrivals, gpus) is not None


def test_without_patience_the_victim_would_starve(monkeypatch: pytest.MonkeyPatch) -> None:
    always_busy = [[(4, 1, 9)]]
    assert hours_waited(always_busy, 4) is not None
    monkeypatch.setattr(queue, "PATIENCE_SECONDS", float("inf"))
    assert hours_waited(always_busy, 4) is None


def test_without_reservations_small_ones_would_starve_a_large_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def take_what_fits(forecast: object, count: int, _seconds: float) -> float | None:
        if forecast.free[0] < count:  # type: ignore[attr-defined]
            return None
        forecast.free[0] -= count  # type: ignore[attr-defined]
        return forecast.times[0]  # type: ignore[attr-defined,no-any-return]

    small_ones = [[(1, 2, 0), (2, 3, 0), (1, 5, 0)]]
    assert hours_waited(small_ones, 4) is not None
    monkeypatch.setattr(queue._Forecast, "reserve", take_what_fits)
    assert hours_waited(small_ones, 4) is None
