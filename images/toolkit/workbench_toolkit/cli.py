"""Command line ``wb``: imports and runs one subcommand.

Only the chosen subcommand's module is imported, so that ``wb --help`` imports no PyTorch.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

from workbench_toolkit.errors import ToolError

COMMANDS: Mapping[str, tuple[str, str]] = {
    "doctor": (
        "workbench_toolkit.doctor.command",
        "check that this image runs on the GPUs of this container",
    ),
    "verify": (
        "workbench_toolkit.verify.command",
        "compare this image with its manifest",
    ),
    "env": (
        "workbench_toolkit.env.command",
        "manage the packages and Python environments in your home",
    ),
    "pack": ("workbench_toolkit.pack.command", "pack many small files into one, or verify a pack"),
    "bench-data": (
        "workbench_toolkit.bench_data.command",
        "measure how many DataLoader workers a data set needs",
    ),
    "train": (
        "workbench_toolkit.train.command",
        "run a training script on the GPUs of this container",
    ),
    "export": (
        "workbench_toolkit.export.command",
        "export a model to TorchScript and ONNX, and compare the results",
    ),
    "serve": ("workbench_toolkit.serve.command", "serve an exported model over HTTP"),
    "health": (
        "workbench_toolkit.serve.health",
        "ask the model server of this container whether it answers",
    ),
}
"""Each subcommand's module and its purpose in one line."""


class Command(Protocol):
    """The functions of a subcommand's module."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments; imports no large package."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the subcommand and return the exit code; raises ToolError."""


def main(words: Sequence[str] | None = None) -> int:
    """Run ``wb`` with ``words``, by default the process's arguments, and return the exit code."""
    given = list(sys.argv[1:] if words is None else words)
    parser = argparse.ArgumentParser(prog="wb", description="From data to training to inference.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, purpose) in COMMANDS.items():
        subparsers.add_parser(name, help=purpose, description=purpose, add_help=False)
    chosen = parser.parse_args(given[:1]).command
    module, purpose = COMMANDS[chosen]
    own = argparse.ArgumentParser(prog=f"wb {chosen}", description=purpose)
    try:
        command = _import_command(module)
        command.add_arguments(own)
        return command.run(own.parse_args(given[1:]))
    except ToolError as error:
        sys.stderr.write(f"wb {chosen}: {error}\n")
        return 2


def _import_command(module: str) -> Command:
    try:
        command: Command = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ToolError(
            f"{error.name} is not in this image: use the flavor train or lab."
        ) from None
    return command


if __name__ == "__main__":
    sys.exit(main())
