"""Imports: the Python files of a folder, the modules that each imports, and the numbers of layers."""

import ast
from collections.abc import Iterator
from pathlib import Path

from testing.paths import ROOT


def number(floors: list[set[str]]) -> dict[str, int]:
    """Return the number of each name's layer, from the lowest."""
    return {module_name: number for number, modules in enumerate(floors) for module_name in modules}


def python_files(folder: str) -> list[Path]:
    """Return the files below ``folder``, a path from the repository's root."""
    return sorted(p for p in (ROOT / folder).rglob("*.py") if "node_modules" not in p.parts)


def imported_modules(file: Path) -> Iterator[str]:
    """Yield each imported module, with the imported name behind it; a relative import is a failure."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
