"""Subcommand ``wb bench-data TARGET``: sweeps the number of DataLoader workers over a pack or a data set."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench_toolkit.cores import usable_cores
from workbench_toolkit.errors import ToolError

if TYPE_CHECKING:
    from workbench_toolkit.bench_data.measure import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="a pack, or module:function for a function that returns a map-style data set",
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="samples per batch (%(default)s)"
    )
    parser.add_argument(
        "--step-ms", type=float, metavar="MS", help="the GPU's time per batch, if known"
    )
    parser.add_argument(
        "--workers", metavar="N,N…", help="numbers to try (0, 1, 2, 4, … up to twice the cores)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        metavar="S",
        help="reading time per number of workers (%(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """MeasureMiddleware, print a line per number of workers and the recommendation."""
    from workbench_toolkit.bench_data.measure import Load, measure
    from workbench_toolkit.bench_data.recommendation import recommend

    if arguments.batch_size < 1 or arguments.seconds <= 0 or (arguments.step_ms or 0) < 0:
        raise ToolError("Give --batch-size and --seconds above 0, and --step-ms of 0 or more.")
    cores = usable_cores()
    # the warning counts the host's cores, and the sweep includes too many workers on purpose
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    make_dataset = _resolve_dataset(arguments.target, arguments.batch_size)
    step_seconds = None if arguments.step_ms is None else arguments.step_ms / 1000
    load = Load(arguments.batch_size, step_seconds, arguments.seconds)
    stream = sys.stderr if arguments.json else sys.stdout
    stream.write("                                 the workers' time\n")
    stream.write("workers  samples/s  GPU waits  computing  storage\n")
    runs = []
    for workers in _numbers(arguments.workers, cores):
        runs.append(measure(make_dataset, workers, load))
        stream.write(_line(runs[-1]))
        stream.flush()
    recommendation = recommend(runs, load)
    if arguments.json:
        report = {"target": arguments.target, "cores": cores, **asdict(load)}
        report |= {"runs": [asdict(found) for found in runs], **asdict(recommendation)}
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        sys.stdout.write(f"{recommendation.sentence}\n")
    return 0


def _line(run: Run) -> str:
    waits = "-" if run.wait_share is None else f"{run.wait_share:.0%}"
    times = f"{run.computing_share:>9.0%}  {run.blocked_share:>7.0%}"
    return f"{run.workers:7}  {run.samples_per_second:9.0f}  {waits:>9}  {times}\n"


def _numbers(given: str | None, cores: int) -> list[int]:
    if given is None:
        return [0, *(2**power for power in range((2 * cores).bit_length()))]
    try:
        numbers = sorted({int(word) for word in given.split(",")})
    except ValueError:
        numbers = [-1]
    if numbers[0] < 0:
        raise ToolError(f"--workers {given} is invalid: give a list of numbers such as 0,2,4.")
    return numbers


def _resolve_dataset(target: str, batch_size: int) -> Callable[[], Any]:
    make_dataset = _import_factory(target) if ":" in target else _pack_factory(Path(target))
    dataset = make_dataset()
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise ToolError(
            f"{target} returns no map-style data set: it needs __len__ and __getitem__."
        )
    if len(dataset) < batch_size:
        raise ToolError(
            f"{target} has {len(dataset)} samples, less than a batch of {batch_size}: set --batch-size."
        )
    return make_dataset


def _pack_factory(path: Path) -> Callable[[], Any]:
    from workbench_toolkit.data import PackedFiles

    def open_cold() -> PackedFiles:
        with path.open("rb") as file:  # as in a first epoch, with an empty page cache
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return PackedFiles(path)

    PackedFiles(path)
    return open_cold


def _import_factory(target: str) -> Callable[[], Any]:
    module, _, name = target.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        factory: Callable[[], Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ToolError(f"{target} is not a function ({error}): write module:function.") from None
    return factory
