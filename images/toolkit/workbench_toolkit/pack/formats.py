"""Says what a pack file can do, and finds the format that a file name asks for.

Both formats keep the files in order, each with its name and SHA-256, and are never changed once finished.
"""

from __future__ import annotations

import errno
import importlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from workbench_toolkit.errors import ToolError
from workbench_toolkit.pack.source import Plan

FORMATS = {
    ".lmdb": "workbench_toolkit.pack.lmdb_file",
    ".h5": "workbench_toolkit.pack.h5_file",
}
"""Each file name ending and the module that has the format's ``Writer`` and ``Reader``."""

Record = tuple[str, bytes, bytes]
"""A file's name, its SHA-256 (32 bytes) and its content."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoSpaceError(Exception):
    """The disk, the quota or the largest file size is used up."""


class Writer(Protocol):
    """An unfinished pack; everything that ``append`` returned from survives a crash."""

    def __init__(self, path: Path, plan: Plan, *, is_new: bool) -> None:
        """Lay the empty file out for ``plan``, or go on with one that was laid out for it."""

    @staticmethod
    def begun_for(path: Path) -> str | None:
        """Return the fingerprint of the plan that the file was laid out for; None when it was not."""

    @property
    def done_files(self) -> int:
        """How many files it holds, always the first ones in order."""

    def listed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and SHA-256 of each file it holds, in order."""

    def append(self, records: Sequence[Record]) -> None:
        """Add the next files, all or none of them; raises NoSpaceError."""

    def finish(self, digest: bytes) -> None:
        """Note the digest of the whole."""

    def close(self) -> None:
        """Let go of the file."""


class Reader(Protocol):
    """An open pack; may be used by several threads, and after a fork in the child too.

    An index is one of 0 … len - 1; a read that finds damage raises ToolError.
    """

    fingerprint: str
    digest: bytes
    size_bytes: int

    def __init__(self, path: Path) -> None:
        """Open it; raises ToolError when it is no pack."""

    def __len__(self) -> int: ...

    def describe(self, index: int) -> tuple[str, bytes]:
        """Return a file's name and the SHA-256 that it had when it was packed."""

    def content(self, index: int) -> bytes:
        """Return a file's bytes."""

    def prefetch(self, indices: Sequence[int]) -> None:
        """Bring several files' bytes nearer, asking the disk for many at once."""


class Format(Protocol):
    """A format's module."""

    Writer: type[Writer]
    Reader: type[Reader]


_open_readers: WeakValueDictionary[tuple[int, int], Reader] = WeakValueDictionary()
_opening = threading.Lock()


def find_format(path: Path) -> Format:
    """Return the module for ``path``'s ending; raises ToolError for another ending or a missing library."""
    module = FORMATS.get(path.suffix)
    if module is None:
        raise ToolError(f"{path} names no format: a pack ends in {' or '.join(FORMATS)}.")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ToolError(
            f"{error.name} is not in this image: packs are for the flavors train and lab."
        ) from None


def not_a_pack(path: Path) -> ToolError:
    """Return the error for a file that is no pack, or no whole one."""
    return ToolError(
        f"{path} is no finished pack of `wb pack`, or was damaged: pack its folder again."
    )


def read_name(raw: bytes, path: Path) -> str:
    """Return a file's name from its bytes in the pack ``path``; raises ToolError when they are damaged."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise not_a_pack(path) from None


def open_reader(path: Path) -> Reader:
    """Open a finished pack, once per process however often it is asked for; raises ToolError."""
    if not path.is_file():
        raise ToolError(f"{path} is not a file: name a pack that `wb pack` finished.")
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    with _opening:
        reader = _open_readers.get(key)
        if reader is None:
            reader = find_format(path).Reader(path.resolve())
            _open_readers[key] = reader
    return reader
