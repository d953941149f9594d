"""File list: the SHA-256 of every file of an image's Python environment, in the form of ``sha256sum``.

Bytecode is listed too: it has no time of its source, so Python executes it without a look at the source.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LIST = "files.sha256"
"""The file name of the list, in the listed folder."""

PROGRESS_EVERY = 1000
UNREADABLE = "unreadable"


def hash_files(folder: Path, progress: Callable[[int, int], None]) -> dict[str, str]:
    """Return the hashes of all files below ``folder``, except its list, by relative path.

    An unreadable file has ``UNREADABLE`` in place of its hash. ``progress`` gets the number of done files and of all.
    """
    names = sorted(str(path.relative_to(folder)) for path in _walk(folder))
    hashes: dict[str, str] = {}
    with ThreadPoolExecutor() as threads:
        for name, digest in zip(
            names, threads.map(_hash, map(folder.joinpath, names)), strict=True
        ):
            if len(hashes) % PROGRESS_EVERY == 0:
                progress(len(hashes), len(names))
            hashes[name] = digest
    progress(len(names), len(names))
    return hashes


def write_list(hashes: Mapping[str, str]) -> str:
    """Return the lines for ``sha256sum --check``."""
    return "".join(f"{digest}  {name}\n" for name, digest in hashes.items())


def read_list(text: str) -> dict[str, str]:
    """Return the hashes by path."""
    lines = (line.partition("  ") for line in text.splitlines())
    return {name: digest for digest, _, name in lines}


def _walk(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            if not path.is_symlink() and path != folder / LIST:
                yield path


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return UNREADABLE
