"""Subcommands ``wb pack DIR OUT`` and ``wb pack --verify OUT``: write and verify a pack."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from workbench_toolkit.errors import ToolError
from workbench_toolkit.pack.packing import Advance, Packed, pack, verify

MAX_SHOWN_NAMES = 10
INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.usage = "wb pack DIR OUT.lmdb|OUT.h5\n       wb pack --verify PACK"
    parser.add_argument(
        "--verify", action="store_true", help="read a whole pack and compare its checksums"
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="the folder and the pack"
    )


def run(arguments: argparse.Namespace) -> int:
    """Pack or verify; return 1 for a damaged pack."""
    paths: list[Path] = arguments.paths
    if len(paths) != (1 if arguments.verify else 2):
        raise ToolError(
            "Give a folder and a pack (wb pack DIR OUT.lmdb), or --verify and one pack."
        )
    try:
        return _verify(paths[0]) if arguments.verify else _pack(*paths)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; the same command continues from here.\n")
        return INTERRUPTED


def _pack(folder: Path, out: Path) -> int:
    packed = pack(folder, out, _show_progress)
    sys.stdout.write(
        f"{out}: {'already packed, ' if packed.was_there else ''}{_describe(packed)}\n"
    )
    return 0


def _verify(out: Path) -> int:
    packed, damaged = verify(out, _show_progress)
    if not damaged:
        sys.stdout.write(f"{out}: whole, {_describe(packed)}\n")
        return 0
    names = ", ".join(damaged[:MAX_SHOWN_NAMES]) + (", …" if len(damaged) > MAX_SHOWN_NAMES else "")
    sys.stdout.write(
        f"{out}: {len(damaged)} of {packed.files} files are damaged ({names}): pack again.\n"
    )
    return 1


def _describe(packed: Packed) -> str:
    return f"{packed.files} files, {packed.size_bytes} bytes, SHA-256 {packed.digest}"


def _show_progress(doing: str, total: int | None) -> Advance:
    """Show progress after 2 s: a bar on a terminal, a line every 10 s in a log."""
    seconds = 0.2 if sys.stderr.isatty() else 10
    bar = tqdm(total=total, desc=doing, unit="file", delay=2, mininterval=seconds, leave=False)
    return lambda files: bar.update(files)
