"""Measurement: runs one DataLoader as a training does, with a pause in place of the GPU's step.

Times are taken inside the data set, so that a core used by other processes does not count as a slow disk.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, get_worker_info

WARM_UP_BATCHES = 2
COMPUTED, BLOCKED = 0, 1


@dataclass(frozen=True)
class Load:
    """The load of a run; ``step_seconds`` is the GPU's time per batch, if known."""

    batch_size: int
    step_seconds: float | None
    seconds: float


@dataclass(frozen=True)
class Run:
    """The result for one number of workers; with 0 workers the main process counts as one.

    ``wait_share`` is the share of time in which the GPU would be idle, None without a step time.
    ``computing_share`` is the share of the workers' time in the data set on a core or ready for one.
    ``blocked_share`` is the share of the workers' time in the data set without that, which is storage.
    """

    workers: int
    samples_per_second: float
    wait_share: float | None
    computing_share: float
    blocked_share: float


class TimedDataset:
    """A data set that sums, per worker, the seconds of computing and of waiting in its batches."""

    def __init__(self, dataset: Any, workers: int) -> None:  # noqa: ANN401
        self._dataset = dataset
        self.seconds = torch.zeros(max(workers, 1), 2, dtype=torch.float64)
        self.seconds.share_memory_()

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        began, computed, queued = time.perf_counter(), time.process_time(), _read_runqueue_seconds()
        many = getattr(self._dataset, "__getitems__", None)
        items: list[Any] = many(indices) if many else [self._dataset[index] for index in indices]
        wall = time.perf_counter() - began
        busy = min(wall, time.process_time() - computed + _read_runqueue_seconds() - queued)
        worker = get_worker_info()
        mine = self.seconds[worker.id if worker else 0]
        mine[COMPUTED] += busy
        mine[BLOCKED] += wall - busy
        return items


def measure(make_dataset: Callable[[], Any], workers: int, load: Load) -> Run:
    """Read for about ``load.seconds`` after a warm-up, from a new data set."""
    watched = TimedDataset(make_dataset(), workers)
    loader: DataLoader[Any] = DataLoader(
        watched,
        batch_size=load.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(0),
    )
    batches = _repeat(loader)
    for _ in range(WARM_UP_BATCHES):
        next(batches)
    count, waited = 0, 0.0
    before, began = watched.seconds.sum(0), time.perf_counter()
    while (asked := time.perf_counter()) < began + load.seconds:
        next(batches)
        waited += time.perf_counter() - asked
        count += 1
        if load.step_seconds:
            time.sleep(load.step_seconds)
    seconds = time.perf_counter() - began
    shares = (watched.seconds.sum(0) - before) / (seconds * max(workers, 1))
    return Run(
        workers=workers,
        samples_per_second=count * load.batch_size / seconds,
        wait_share=None if load.step_seconds is None else waited / seconds,
        computing_share=min(1.0, shares[COMPUTED].item()),
        blocked_share=min(1.0, shares[BLOCKED].item()),
    )


def _repeat(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def _read_runqueue_seconds() -> float:
    """Return this thread's time in the kernel's run queue; 0 without the kernel's statistics."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    return 0.0
