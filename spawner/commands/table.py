"""Table: prints aligned columns to a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence


def print_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, is_number: bool = False
) -> None:
    """Print columns as wide as their widest cell; ``is_number`` right-aligns all columns but the first."""
    lines = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *rest in lines:
        cells = [first.ljust(widths[0])]
        for cell, width in zip(rest, widths[1:], strict=True):
            cells.append(cell.rjust(width) if is_number else cell.ljust(width))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
