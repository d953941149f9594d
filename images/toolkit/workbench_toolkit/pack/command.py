"""``wb pack DIR OUT`` and ``wb pack --verify OUT``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from workbench_toolkit.errors import ToolError
from workbench_toolkit.pack.packing import Advance, Packed, pack, verify

SHOWN_NAMES = 10
INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.usage = "wb pack DIR OUT.lmdb|OUT.h5\n       wb pack --verify PACK"
    parser.add_argument(
        "--verify", action="store_true", help="read all of a pack and compare its checksums"
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="the folder and the pack"
    )


def run(arguments: argparse.Namespace) -> int:
    """Pack or verify; 1 when a pack is damaged."""
    paths: list[Path] = arguments.paths
    if len(paths) != (1 if arguments.verify else 2):
        raise ToolError(
            "Name a folder and a pack (wb pack DIR OUT.lmdb), or --verify and one pack."
        )
    try:
        return _verify(paths[0]) if arguments.verify else _pack(*paths)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; the same command goes on where this one ended.\n")
        return INTERRUPTED


def _pack(folder: Path, out: Path) -> int:
    packed = pack(folder, out, _show)
    sys.stdout.write(
        f"{out}: {'already packed, ' if packed.was_there else ''}{_describe(packed)}\n"
    )
    return 0


def _verify(out: Path) -> int:
    packed, damaged = verify(out, _show)
    if not damaged:
        sys.stdout.write(f"{out}: whole, {_describe(packed)}\n")
        return 0
    names = ", ".join(damaged[:SHOWN_NAMES]) + (", …" if len(damaged) > SHOWN_NAMES else "")
    sys.stdout.write(
        f"{out}: {len(damaged)} of {packed.files} files are damaged ({names}): pack again.\n"
    )
    return 1


def _describe(packed: Packed) -> str:
    return f"{packed.files} files, {packed.size_bytes} bytes, SHA-256 {packed.digest}"


def _show(doing: str, total: int | None) -> Advance:
    """Show progress once it takes more than 2 s: a bar on a terminal, now and then a line in a log."""
    seconds = 0.2 if sys.stderr.isatty() else 10
    bar = tqdm(total=total, desc=doing, unit="file", delay=2, mininterval=seconds, leave=False)
    return lambda files: bar.update(files)
