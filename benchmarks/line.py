"""Measures how long the line's decision takes, and how that grows: ``python -m benchmarks.line``.

So many GPUs as people wait, each held or wanted by somebody else; the best of many decisions, in milliseconds.
"""

from __future__ import annotations

import argparse
import random
import time

from spawner.model import Gpu, GpuHealth, Lease, LeaseState
from spawner.policy.line import plan_line

NOW = 1_000_000.0
HOUR = 3600.0
SIZES = (10, 100, 1_000, 10_000)


def make_host(size: int, rng: random.Random) -> tuple[list[Gpu], list[Lease], list[Lease]]:
    """Return ``size`` GPUs, the leases that hold them (one each), and ``size`` leases that wait."""
    gpus = [Gpu(f"GPU-{i}", i, "simulated", None, GpuHealth.OK) for i in range(size)]
    holding = [
        make_lease(f"h{i}", LeaseState.RUNNING, (gpu.uuid,), NOW - rng.uniform(0, 24) * HOUR)
        for i, gpu in enumerate(gpus)
    ]
    waiting = [
        make_lease(f"w{i}", LeaseState.WAITING, (), NOW - rng.uniform(0, 30) * HOUR, rng)
        for i in range(size)
    ]
    return gpus, holding, sorted(waiting, key=lambda lease: lease.requested_at)


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
        uid=20000,
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


def measure(size: int, free: int, rounds: int) -> float:
    """Return the seconds of the fastest of ``rounds`` decisions with ``free`` of ``size`` GPUs free."""
    rng = random.Random(size)  # noqa: S311 - the same load every time
    gpus, holding, waiting = make_host(size, rng)
    use = {lease.user: rng.uniform(0, 100) for lease in waiting}
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        plan = plan_line(waiting, leases=holding[free:], gpus=gpus, use=use, now=NOW)
        times.append(time.perf_counter() - began)
        assert len(plan.grants) + sum(map(len, plan.queues.values())) == size
    return min(times)


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser("python -m benchmarks.line", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    print("  GPUs = waiting   none free   a tenth free")
    for size in SIZES:
        full, some = measure(size, 0, rounds), measure(size, size // 10, rounds)
        print(f"{size:>16,} {full * 1e3:>8.2f} ms {some * 1e3:>11.2f} ms")


if __name__ == "__main__":
    main()
