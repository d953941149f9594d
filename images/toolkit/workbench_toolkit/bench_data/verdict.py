"""Decides from a sweep's runs how many workers to take and what the training would wait for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from workbench_toolkit.bench_data.measure import Load, Run

NEAR_BEST = 0.95
WAITS_LITTLE = 0.05
WAITS_ALIKE = 0.02
IDLE_BELOW = 0.5


class Bottleneck(StrEnum):
    """What sets the pace."""

    GPU = "gpu"
    PROCESSOR = "processor"
    HANDOVER = "handover"
    STORAGE = "storage"


REASONS = {
    Bottleneck.PROCESSOR: "the processor is the bottleneck: make decoding cheaper, or do it once before packing.",
    Bottleneck.HANDOVER: "handing batches over to the main process is the bottleneck: "
    "make samples smaller (bytes instead of floats), and convert them on the GPU.",
    Bottleneck.STORAGE: "storage is the bottleneck: pack small files, move them to a faster disk, "
    "or, where it answers many at once, try more workers.",
}


@dataclass(frozen=True)
class Verdict:
    """``workers`` is the smallest number that is as good as any; ``sentence`` is for the person who asked."""

    workers: int
    bottleneck: Bottleneck
    sentence: str


def judge(runs: Sequence[Run], load: Load) -> Verdict:
    """Return the verdict on at least one run."""
    chosen = _choose(runs)
    limit = _limit(chosen)
    with_workers = f"With {chosen.workers} worker{'' if chosen.workers == 1 else 's'}"
    if chosen.wait_share is None:
        batch_ms = 1000 * load.batch_size / chosen.samples_per_second
        sentence = (
            f"{with_workers} a GPU whose step takes {batch_ms:.1f} ms or more does not wait; "
            f"for a shorter step {REASONS[limit]}"
        )
        return Verdict(chosen.workers, limit, sentence)
    waits = f"{with_workers} the GPU would wait {chosen.wait_share:.0%} of the time"
    if chosen.wait_share <= WAITS_LITTLE:
        return Verdict(chosen.workers, Bottleneck.GPU, f"{waits}: the data comes in time.")
    return Verdict(chosen.workers, limit, f"{waits}: {REASONS[limit]}")


def _choose(runs: Sequence[Run]) -> Run:
    waits = [run.wait_share for run in runs if run.wait_share is not None]
    if waits:
        good = [
            run
            for run in runs
            if (run.wait_share or 0.0) <= max(min(waits) + WAITS_ALIKE, WAITS_LITTLE)
        ]
    else:
        best = max(run.samples_per_second for run in runs)
        good = [run for run in runs if run.samples_per_second >= NEAR_BEST * best]
    return min(good, key=lambda run: run.workers)


def _limit(run: Run) -> Bottleneck:
    """Return what holds the loader up: what its workers are at, or, if they idle, what takes over from them."""
    if run.workers and run.computing_share + run.blocked_share < IDLE_BELOW:
        return Bottleneck.HANDOVER
    return Bottleneck.STORAGE if run.blocked_share > run.computing_share else Bottleneck.PROCESSOR
