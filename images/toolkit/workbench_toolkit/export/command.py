"""Subcommand ``wb export``: converts a model to TorchScript and ONNX, and compares both with the eager model.

An export that differs from the eager model is not written.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from workbench_toolkit.errors import ToolError
from workbench_toolkit.export.contract import KINDS

if TYPE_CHECKING:
    from workbench_toolkit.export.pipeline import Export


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a class or function that returns the model: model.py:Network or package.module:factory",
    )
    parser.add_argument("--checkpoint", type=Path, help="the weights: a saved state_dict")
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        dest="inputs",
        metavar="NAME=64x784[:DTYPE[:BELOW]]",
        help="an input of forward, rows first, with random values (integers: 0 or 1, or below BELOW); "
        "repeat for each input, or give one .npz or .pt file with all inputs by name",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="the output folder, created if missing"
    )
    parser.add_argument("--format", choices=["both", *KINDS], default="both")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="the largest allowed difference from the eager model (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of random inputs (%(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Export, compare, and write into ``--out``; return 1 for a difference; raises ToolError."""
    if not (math.isfinite(arguments.tolerance) and arguments.tolerance >= 0) or arguments.seed < 0:
        raise ToolError("Give --tolerance and --seed as numbers of 0 or more.")
    from workbench_toolkit.export.pipeline import prepare

    export = prepare(arguments.source, arguments.checkpoint, arguments.inputs, arguments.seed)
    _print_line(f"{arguments.source}: {export.parameters:,} parameters, torch {export.torch}")
    if arguments.checkpoint is None:
        _print_line("No --checkpoint: the model has the factory's weights.")
    out: Path = arguments.out
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as folder:
            return _export_all(export, arguments, Path(folder))
    except OSError as error:
        raise ToolError(f"{out} cannot be written: {error.strerror or error}.") from error


def _export_all(export: Export, arguments: argparse.Namespace, folder: Path) -> int:
    kinds = list(KINDS) if arguments.format == "both" else [arguments.format]
    unstable = export.eager_difference()
    if unstable > arguments.tolerance:
        return _print_failure(
            f"Two runs of the eager model on the same inputs differ by {unstable:.3g}: remove random numbers "
            "and dropout from forward in eval mode."
        )
    worst = 0.0
    for kind in kinds:
        _print_line(f"{kind}: writing")
        for warning in export.write(kind, folder):
            _print_line(f"  {warning}")
        for name, difference in export.compare(kind, folder).items():
            _print_line(
                f"  {name}: max difference {difference:.3g} ({export.row_counts_text} rows)"
            )
            worst = max(worst, difference)
    if worst > arguments.tolerance:
        return _print_failure(
            f"An exported model differs from the eager one by {worst:.3g}, more than --tolerance "
            f"{arguments.tolerance:g}: nothing was written."
        )
    contract = export.contract(kinds, folder, arguments.tolerance)
    if not contract.rows_independent:
        _print_line("A row's output depends on other rows: wb serve will not batch requests.")
    for file in folder.iterdir():
        file.replace(arguments.out / file.name)
    contract.write(arguments.out)
    _print_line(
        f"{arguments.out}: {', '.join(map(str, contract.inputs))} → {', '.join(map(str, contract.outputs))}"
    )
    return 0


def _print_line(sentence: str) -> None:
    sys.stdout.write(sentence + "\n")
    sys.stdout.flush()


def _print_failure(sentence: str) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"wb export: {sentence}\n")
    return 1
