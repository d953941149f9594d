"""``wb bench-data TARGET``: sweeps the number of DataLoader workers over a pack or a data set of yours."""

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

from workbench_toolkit.errors import ToolError
from workbench_toolkit.train.cores import usable_cores

if TYPE_CHECKING:
    from workbench_toolkit.bench_data.measure import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="a pack, or module:function that returns a map-style data set",
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="samples per batch (%(default)s)"
    )
    parser.add_argument(
        "--step-ms", type=float, metavar="MS", help="the GPU's time per batch, if you know it"
    )
    parser.add_argument(
        "--workers", metavar="N,N…", help="numbers to try (0, 1, 2, 4, … up to twice the cores)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        metavar="S",
        help="how long to read with each number (%(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print a line per number of workers and the verdict."""
    from workbench_toolkit.bench_data.measure import Load, measure
    from workbench_toolkit.bench_data.verdict import judge

    if arguments.batch_size < 1 or arguments.seconds <= 0 or (arguments.step_ms or 0) < 0:
        raise ToolError("--batch-size and --seconds are above 0, and --step-ms is not negative.")
    cores = usable_cores()
    # it speaks of the machine's cores, and this sweep goes on until more workers no longer help
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    make_dataset = _find(arguments.target, arguments.batch_size)
    step_seconds = None if arguments.step_ms is None else arguments.step_ms / 1000
    load = Load(arguments.batch_size, step_seconds, arguments.seconds)
    told = sys.stderr if arguments.json else sys.stdout
    told.write("                                 the workers' time\n")
    told.write("workers  samples/s  GPU waits  computing  storage\n")
    runs = []
    for workers in _numbers(arguments.workers, cores):
        runs.append(measure(make_dataset, workers, load))
        told.write(_line(runs[-1]))
        told.flush()
    verdict = judge(runs, load)
    if arguments.json:
        report = {"target": arguments.target, "cores": cores, **asdict(load)}
        report |= {"runs": [asdict(found) for found in runs], **asdict(verdict)}
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        sys.stdout.write(f"{verdict.sentence}\n")
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
        raise ToolError(f"--workers {given} is no list of numbers like 0,2,4.")
    return numbers


def _find(target: str, batch_size: int) -> Callable[[], Any]:
    make_dataset = _find_factory(target) if ":" in target else _find_pack(Path(target))
    dataset = make_dataset()
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise ToolError(f"{target} gives no map-style data set (one with __len__ and __getitem__).")
    if len(dataset) < batch_size:
        raise ToolError(
            f"{target} holds {len(dataset)} samples, less than a batch of {batch_size}: set --batch-size."
        )
    return make_dataset


def _find_pack(path: Path) -> Callable[[], Any]:
    from workbench_toolkit.data import PackedFiles

    def open_cold() -> PackedFiles:
        with path.open("rb") as file:  # a first epoch, which finds nothing in the page cache
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return PackedFiles(path)

    PackedFiles(path)
    return open_cold


def _find_factory(target: str) -> Callable[[], Any]:
    module, _, name = target.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        factory: Callable[[], Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ToolError(f"{target} names no function ({error}): write module:function.") from None
    return factory
