"""Measures how long the queue's decision takes, and how that grows: ``python -m benchmarks.queue``.

So many GPUs as people wait, each held or wanted by another user; the best of many decisions, in milliseconds.
"""

from __future__ import annotations

import argparse
import random
import time

from spawner.model import Gpu, GpuHealth, Lease, LeaseState
from spawner.policy.queue import plan_queue

NOW = 1_000_000.0
HOUR = 3600.0
SIZES = (10, 100, 1_000, 10_000)
GROUP, NODE = 8, 4
"""GPUs that reach each other over NVLink, and GPUs of one NUMA node."""


def make_host(size: int, rng: random.Random) -> tuple[list[Gpu], list[Lease], list[Lease]]:
    """Return ``size`` GPUs, the leases that hold them (one each), and ``size`` leases that wait, by first come."""
    gpus = [
        Gpu(
            f"GPU-{i}",
            i,
            "simulated",
            None,
            GpuHealth.OK,
            nvlink_group=i // GROUP,
            numa_node=i // NODE,
        )
        for i in range(size)
    ]
    holding = [
        make_lease(f"h{i}", LeaseState.RUNNING, (gpu.uuid,), requested_at)
        for i, (gpu, requested_at) in enumerate(
            zip(rng.sample(gpus, size), draw_times(size, 24, rng), strict=True)
        )
    ]
    waiting = [
        make_lease(f"w{i}", LeaseState.WAITING, (), requested_at, rng)
        for i, requested_at in enumerate(draw_times(size, 30, rng))
    ]
    return gpus, holding, waiting


def draw_times(size: int, hours: float, rng: random.Random) -> list[float]:
    """Return ``size`` moments of the last ``hours``, in order."""
    return sorted(NOW - rng.uniform(0, hours) * HOUR for _ in range(size))


def make_lease(
    name: str,
    state: LeaseState,
    gpu_uuids: tuple[str, ...],
    requested_at: float,
    rng: random.Random | None = None,
) -> Lease:
    """Return a lease for 24 hours."""
    is_held = bool(gpu_uuids)
    return Lease(
        id=name,
        epoch=1,
        user=name,
        server="",
        uid=20000 + int(name[1:]),
        release="v2.7",
        gpu_count=1 if rng is None else rng.choice((1, 1, 2, 4)),
        hours=24.0,
        priority=0 if rng is None else rng.choice((0, 0, 0, 1)),
        gpu_uuids=gpu_uuids,
        state=state,
        requested_at=requested_at,
        granted_at=requested_at if is_held else None,
        ends_at=requested_at + 24 * HOUR if is_held else None,
    )


def measure(size: int, free: int, rounds: int) -> tuple[float, float]:
    """Return the fastest of ``rounds`` decisions with ``free`` of ``size`` GPUs free: seconds by clock, and of CPU."""
    rng = random.Random(size)  # noqa: S311 - the same load every time
    gpus, holding, waiting = make_host(size, rng)
    use = {lease.uid: rng.uniform(0, 100) for lease in waiting}
    held = sorted(rng.sample(range(size), size - free))
    leases = [holding[i] for i in held]
    times = []
    for _ in range(rounds):
        began = time.perf_counter(), time.process_time()
        plan = plan_queue(waiting, leases=leases, gpus=gpus, recent_gpu_hours=use, now=NOW)
        times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        assert len(plan.grants) + sum(map(len, plan.queues.values())) == size
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


def main() -> None:
    """Print one line per size; each time is by the clock and, in brackets, of CPU."""
    parser = argparse.ArgumentParser("python -m benchmarks.queue", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    print("  GPUs = waiting             none free    a tenth free, here and there")
    measured = [
        (size, measure(size, 0, rounds), measure(size, size // 10, rounds)) for size in SIZES
    ]
    for size, *cases in measured:
        told = (f"{wall * 1e3:9.2f} ms ({cpu * 1e3:5.2f})" for wall, cpu in cases)
        print(f"{size:>16,} {' '.join(told)}")
    (few, *first), (many, *last) = measured[0], measured[-1]
    growth = (f"{end[1] / start[1]:.0f}" for start, end in zip(first, last, strict=True))
    print(f"{many / few:,.0f} times as many cost {' and '.join(growth)} times the CPU time")


if __name__ == "__main__":
    main()
