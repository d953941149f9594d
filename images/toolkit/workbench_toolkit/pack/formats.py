"""Pack formats: the interface of a pack file, and the format for a file name.

Both formats keep the files in order, each with its name and SHA-256; a finished pack never changes.
"""

from __future__ import annotations

import errno
import importlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from workbench_toolkit.errors import ToolError
from workbench_toolkit.pack.source import Plan

FORMATS = {
    ".lmdb": "workbench_toolkit.pack.lmdb_file",
    ".h5": "workbench_toolkit.pack.h5_file",
}
"""The module of each format, by file name suffix."""

Record = tuple[str, bytes, bytes]
"""A file's name, its SHA-256 (32 bytes) and its content."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoSpaceError(Exception):
    """The disk, the quota or the maximum file size is exhausted."""


class PackWriter(Protocol):
    """An unfinished pack; after ``append`` returns, its records survive a crash."""

    def __init__(self, path: Path, plan: Plan, *, is_new: bool) -> None:
        """Prepare a new file for ``plan``, or continue with a file that was prepared for it."""

    @staticmethod
    def read_fingerprint(path: Path) -> str | None:
        """Return the fingerprint of the file's plan; None for another file."""

    @property
    def done_files(self) -> int:
        """The number of written files, always the first ones in order."""

    def listed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and SHA-256 of each written file, in order."""

    def append(self, records: Sequence[Record]) -> None:
        """Add the next files atomically; raises NoSpaceError."""

    def finish(self, digest: bytes) -> None:
        """Write the digest of the whole pack."""

    def close(self) -> None:
        """Close the file."""


class PackReader(Protocol):
    """An open pack, usable by several threads and by forked children.

    An index is one of 0 … len - 1; a read of damaged data raises ToolError.
    """

    fingerprint: str
    digest: bytes
    size_bytes: int

    def __init__(self, path: Path) -> None:
        """Open a pack; raises ToolError for another file."""

    def __len__(self) -> int: ...

    def describe(self, index: int) -> tuple[str, bytes]:
        """Return a file's name and its SHA-256 at the time of packing."""

    def content(self, index: int) -> bytes:
        """Return a file's bytes."""

    def prefetch(self, indices: Sequence[int]) -> None:
        """Read several files ahead with parallel requests to the disk."""


@dataclass(frozen=True)
class Format:
    """The two classes of a format; its module has it as ``FORMAT``."""

    writer: type[PackWriter]
    reader: type[PackReader]


_open_readers: WeakValueDictionary[tuple[int, int], PackReader] = WeakValueDictionary()
_opening = threading.Lock()


def get_format(path: Path) -> Format:
    """Return the format for ``path``'s suffix; raises ToolError for another suffix or a missing library."""
    module = FORMATS.get(path.suffix)
    if module is None:
        raise ToolError(f"{path} has no known suffix: a pack ends in {' or '.join(FORMATS)}.")
    try:
        pack_format: Format = importlib.import_module(module).FORMAT
    except ModuleNotFoundError as error:
        raise ToolError(
            f"{error.name} is not in this image: use the flavor train or lab for packs."
        ) from None
    return pack_format


def not_a_pack(path: Path) -> ToolError:
    """Return the error for a file that is not a complete pack."""
    return ToolError(f"{path} is not a finished pack, or it is damaged: pack its folder again.")


def read_name(raw: bytes, path: Path) -> str:
    """Return a file's name from its bytes in the pack ``path``; raises ToolError for damaged bytes."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise not_a_pack(path) from None


def open_reader(path: Path) -> PackReader:
    """Return the reader of a finished pack, one per process and file; raises ToolError."""
    if not path.is_file():
        raise ToolError(f"{path} is not a file: give a finished pack.")
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    with _opening:
        reader = _open_readers.get(key)
        if reader is None:
            reader = get_format(path).reader(path.resolve())
            _open_readers[key] = reader
    return reader
