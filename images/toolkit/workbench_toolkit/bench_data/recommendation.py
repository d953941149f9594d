"""Recommendation: derives the number of workers and the bottleneck from a sweep's runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from workbench_toolkit.bench_data.measure import Load, Run

NEAR_BEST_SHARE = 0.95
LOW_WAIT_SHARE = 0.05
WAIT_TOLERANCE = 0.02
MIN_BUSY_SHARE = 0.5


class Bottleneck(StrEnum):
    """The part that limits the speed."""

    GPU = "gpu"
    PROCESSOR = "processor"
    HANDOVER = "handover"
    STORAGE = "storage"


REASONS = {
    Bottleneck.PROCESSOR: "the processor is the bottleneck: make decoding cheaper, or decode once before packing.",
    Bottleneck.HANDOVER: "the transfer of batches to the main process is the bottleneck: "
    "make samples smaller (bytes instead of floats), and convert them on the GPU.",
    Bottleneck.STORAGE: "storage is the bottleneck: pack small files, move them to a faster disk, "
    "or try more workers on storage with parallel reads.",
}


@dataclass(frozen=True)
class Recommendation:
    """``workers`` is the smallest number with the best result; ``sentence`` explains it to the user."""

    workers: int
    bottleneck: Bottleneck
    sentence: str


def recommend(runs: Sequence[Run], load: Load) -> Recommendation:
    """Return the recommendation for at least one run."""
    chosen = _choose(runs)
    limit = _limit(chosen)
    with_workers = f"With {chosen.workers} worker{'' if chosen.workers == 1 else 's'}"
    if chosen.wait_share is None:
        batch_ms = 1000 * load.batch_size / chosen.samples_per_second
        sentence = (
            f"{with_workers} a GPU with a step of {batch_ms:.1f} ms or more does not wait. "
            f"For a shorter step, {REASONS[limit]}"
        )
        return Recommendation(chosen.workers, limit, sentence)
    waits = f"{with_workers} the GPU would wait {chosen.wait_share:.0%} of the time"
    if chosen.wait_share <= LOW_WAIT_SHARE:
        return Recommendation(chosen.workers, Bottleneck.GPU, f"{waits}: the data arrives in time.")
    return Recommendation(chosen.workers, limit, f"{waits}: {REASONS[limit]}")


def _choose(runs: Sequence[Run]) -> Run:
    waits = [run.wait_share for run in runs if run.wait_share is not None]
    if waits:
        good = [
            run
            for run in runs
            if (run.wait_share or 0.0) <= max(min(waits) + WAIT_TOLERANCE, LOW_WAIT_SHARE)
        ]
    else:
        best = max(run.samples_per_second for run in runs)
        good = [run for run in runs if run.samples_per_second >= NEAR_BEST_SHARE * best]
    return min(good, key=lambda run: run.workers)


def _limit(run: Run) -> Bottleneck:
    """Return the loader's bottleneck: the workers' main activity, or the handover if they are idle."""
    if run.workers and run.computing_share + run.blocked_share < MIN_BUSY_SHARE:
        return Bottleneck.HANDOVER
    return Bottleneck.STORAGE if run.blocked_share > run.computing_share else Bottleneck.PROCESSOR
