"""The command ``wb``: finds the subcommand and runs it.

A subcommand's module is imported only when it is asked for, so that ``wb --help`` waits for no PyTorch.
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
        "say whether this image runs on the GPUs that are here",
    ),
    "verify": (
        "workbench_toolkit.verify.command",
        "say whether this image is what its manifest declares",
    ),
    "pack": ("workbench_toolkit.pack.command", "pack many small files into one, or verify a pack"),
    "bench-data": (
        "workbench_toolkit.bench_data.command",
        "find out how many DataLoader workers a data set needs",
    ),
    "train": (
        "workbench_toolkit.train.command",
        "run a training script on the GPUs that this container was given",
    ),
    "export": (
        "workbench_toolkit.export.command",
        "turn a model into TorchScript and ONNX that answer as it does",
    ),
    "serve": ("workbench_toolkit.serve.command", "serve an exported model over HTTP"),
}
"""Each subcommand's module, and what it is for in one line."""


class Command(Protocol):
    """What a subcommand's module has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Describe the arguments; imports nothing that takes long."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it and return the exit code; raises ToolError."""


def main(words: Sequence[str] | None = None) -> int:
    """Run ``wb`` with ``words`` (those of the shell) and return the exit code."""
    given = list(sys.argv[1:] if words is None else words)
    parser = argparse.ArgumentParser(prog="wb", description="From data to training to inference.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, purpose) in COMMANDS.items():
        subparsers.add_parser(name, help=purpose, description=purpose, add_help=False)
    chosen = parser.parse_args(given[:1]).command
    module, purpose = COMMANDS[chosen]
    own = argparse.ArgumentParser(prog=f"wb {chosen}", description=purpose)
    try:
        command = _find(module)
        command.add_arguments(own)
        return command.run(own.parse_args(given[1:]))
    except ToolError as error:
        sys.stderr.write(f"wb {chosen}: {error}\n")
        return 2


def _find(module: str) -> Command:
    try:
        command: Command = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ToolError(
            f"{error.name} is not in this image: this is for the flavors train and lab."
        ) from None
    return command


if __name__ == "__main__":
    sys.exit(main())
