"""Pack source: lists and reads a folder's files in the order of packing.

The order is that of the relative paths' UTF-8 bytes, independent of the file system.
Memory holds the names of one folder per level.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench_toolkit.errors import ToolError

MAX_FILE_BYTES = 1 << 30
"""A file has to fit into memory."""


@dataclass(frozen=True)
class Entry:
    """One file to pack; ``name`` is its path below the folder, with ``/``."""

    name: str
    path: Path
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class Plan:
    """The content of a folder; ``fingerprint`` changes with any file's name, size or time."""

    files: int
    size_bytes: int
    name_bytes: int
    fingerprint: str


def list_entries(folder: Path, below: str = "") -> Iterator[Entry]:
    """Yield every file under ``folder`` in order; raises ToolError for an unsupported entry."""
    try:
        with os.scandir(folder) as listing:
            # a folder sorts with the slash that follows it in its files' paths
            found = sorted((_sort_key(item), item) for item in listing)
    except OSError as error:
        raise _unlistable(error) from None
    for _, item in found:
        name = below + item.name
        if item.is_symlink():
            raise ToolError(
                f"{item.path} is a symbolic link: replace it by a file (cp -rL copies without links)."
            )
        if item.is_dir():
            yield from list_entries(Path(item.path), f"{name}/")
        elif item.is_file():
            yield _describe(name, item)
        else:
            raise ToolError(f"{item.path} is neither a file nor a folder: move it elsewhere.")


class Tally:
    """Counts entries and builds the plan of the entries so far."""

    def __init__(self) -> None:
        self.files = self.size_bytes = self.name_bytes = 0
        self._fingerprint = hashlib.sha256()

    def add(self, entry: Entry) -> None:
        """Count one more entry."""
        self.files += 1
        self.size_bytes += entry.size_bytes
        self.name_bytes += len(entry.name.encode())
        self._fingerprint.update(f"{entry.name}\0{entry.size_bytes}\0{entry.mtime_ns}\n".encode())

    def plan(self) -> Plan:
        """Return the plan of the entries so far."""
        return Plan(self.files, self.size_bytes, self.name_bytes, self._fingerprint.hexdigest())


def plan(folder: Path, advance: Callable[[int], object]) -> Plan:
    """Return the plan of ``folder`` and report progress to ``advance``; raises ToolError, also without files."""
    tally = Tally()
    for entry in list_entries(folder):
        tally.add(entry)
        advance(1)
    if tally.files == 0:
        raise ToolError(f"{folder} has no files: give the folder with the files to pack.")
    return tally.plan()


def read(entry: Entry) -> bytes:
    """Return the file's bytes; raises ToolError for an unreadable or changed file."""
    try:
        with entry.path.open("rb", buffering=0) as file:
            content = file.read()
            mtime_ns = os.fstat(file.fileno()).st_mtime_ns
    except OSError as error:
        raise ToolError(
            f"{entry.path} can't be read ({error.strerror}): make it readable and pack again."
        ) from None
    if len(content) != entry.size_bytes or mtime_ns != entry.mtime_ns:
        raise ToolError(
            f"{entry.path} changed while it was packed: stop all writers and pack again."
        )
    return content


def _sort_key(item: os.DirEntry[str]) -> bytes:
    try:
        name = item.name.encode()
    except UnicodeEncodeError:
        shown = ascii(os.fsencode(item.path))[1:]
        raise ToolError(
            f"The name {shown} is not UTF-8: rename it (convmv does many at once)."
        ) from None
    return name + b"/" if item.is_dir(follow_symlinks=False) else name


def _describe(name: str, item: os.DirEntry[str]) -> Entry:
    try:
        status = item.stat(follow_symlinks=False)
    except OSError as error:
        raise _unlistable(error) from None
    if status.st_size > MAX_FILE_BYTES:
        raise ToolError(
            f"{item.path} is over 1 GiB: a pack is for small files; move this one elsewhere."
        )
    return Entry(name, Path(item.path), status.st_size, status.st_mtime_ns)


def _unlistable(error: OSError) -> ToolError:
    if isinstance(error, FileNotFoundError):
        return ToolError(
            f"{error.filename} vanished while it was listed: stop all writers and pack again."
        )
    return ToolError(
        f"{error.filename} can't be listed ({error.strerror}): give yourself read access to it and its folder."
    )
