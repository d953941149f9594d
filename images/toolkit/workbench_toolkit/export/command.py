"""``wb export``: a model in Python to TorchScript and ONNX, compared with the eager model before anything is kept.

What does not agree with the eager model is not written.
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
    """Describe ``wb export``'s arguments."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="what makes the model without arguments: model.py:Network or package.module:factory",
    )
    parser.add_argument("--checkpoint", type=Path, help="the weights: a saved state_dict")
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        dest="inputs",
        metavar="NAME=64x784[:DTYPE[:BELOW]]",
        help="an input of forward, rows first, filled with random values (whole numbers: 0 or 1, or all below BELOW); "
        "repeat for each input, or give one .npz or .pt file with all of them by name",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="the folder to write, made if needed"
    )
    parser.add_argument("--format", choices=["both", *KINDS], default="both")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="the largest difference from the eager model that is accepted (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of random inputs (%(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Export, compare, and write into ``--out``; return 1 where the comparison fails; raises ToolError."""
    if not (math.isfinite(arguments.tolerance) and arguments.tolerance >= 0) or arguments.seed < 0:
        raise ToolError("--tolerance and --seed are numbers from 0 on.")
    from workbench_toolkit.export.pipeline import prepare

    export = prepare(arguments.source, arguments.checkpoint, arguments.inputs, arguments.seed)
    _say(f"{arguments.source}: {export.parameters:,} parameters, torch {export.torch}")
    if arguments.checkpoint is None:
        _say("No --checkpoint: these are the weights that the factory makes.")
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
        return _fail(
            f"The eager model answers the same inputs differently each time (by {unstable:.3g}): does forward draw "
            "random numbers or drop out in eval mode?"
        )
    worst = 0.0
    for kind in kinds:
        _say(f"{kind}: writing")
        for warning in export.write(kind, folder):
            _say(f"  {warning}")
        for name, difference in export.compare(kind, folder).items():
            _say(f"  {name}: max difference {difference:.3g} ({export.rows_said} rows)")
            worst = max(worst, difference)
    if worst > arguments.tolerance:
        return _fail(
            f"An exported model differs from the eager one by {worst:.3g}, more than --tolerance "
            f"{arguments.tolerance:g}: nothing was written."
        )
    contract = export.contract(kinds, folder, arguments.tolerance)
    if not contract.rows_independent:
        _say("A row's answer depends on its neighbours: wb serve will not put requests together.")
    for file in folder.iterdir():
        file.replace(arguments.out / file.name)
    contract.write(arguments.out)
    _say(
        f"{arguments.out}: {', '.join(map(str, contract.inputs))} → {', '.join(map(str, contract.outputs))}"
    )
    return 0


def _say(sentence: str) -> None:
    sys.stdout.write(sentence + "\n")
    sys.stdout.flush()


def _fail(sentence: str) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"wb export: {sentence}\n")
    return 1
