"""Lists a folder's files in the order they are packed in.

The order is that of the relative paths' UTF-8 bytes, whatever the file system answers; no more than one
folder's names per level are held at a time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench_toolkit.errors import ToolError

LARGEST_FILE_BYTES = 1 << 30
"""A file is held in memory once, so there is an end to its size."""


@dataclass(frozen=True)
class Entry:
    """One file to pack; ``name`` is its path below the folder, with ``/``."""

    name: str
    path: Path
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class Plan:
    """What the folder holds; ``fingerprint`` differs once any file's name, size or time does."""

    files: int
    size_bytes: int
    name_bytes: int
    fingerprint: str


def list_entries(folder: Path, below: str = "") -> Iterator[Entry]:
    """Yield every file under ``folder`` in order; raises ToolError for what can't be packed."""
    try:
        with os.scandir(folder) as listing:
            # a folder sorts as its name with the slash that its files' paths go on with
            found = sorted((_sort_key(item), item) for item in listing)
    except OSError as error:
        raise _unlistable(error) from None
    for _, item in found:
        name = below + item.name
        if item.is_symlink():
            raise ToolError(
                f"{item.path} is a symbolic link: pack real files only (cp -rL makes a copy without links)."
            )
        if item.is_dir():
            yield from list_entries(Path(item.path), f"{name}/")
        elif item.is_file():
            yield _describe(name, item)
        else:
            raise ToolError(f"{item.path} is neither a file nor a folder: move it elsewhere first.")


class Tally:
    """Counts entries one by one, and says which plan they make up so far."""

    def __init__(self) -> None:
        self.files = self.size_bytes = self.name_bytes = 0
        self._fingerprint = hashlib.sha256()

    def add(self, entry: Entry) -> None:
        """Count one more."""
        self.files += 1
        self.size_bytes += entry.size_bytes
        self.name_bytes += len(entry.name.encode())
        self._fingerprint.update(f"{entry.name}\0{entry.size_bytes}\0{entry.mtime_ns}\n".encode())

    def plan(self) -> Plan:
        """Return the plan of the entries so far."""
        return Plan(self.files, self.size_bytes, self.name_bytes, self._fingerprint.hexdigest())


def plan(folder: Path, advance: Callable[[int], object]) -> Plan:
    """Count what ``list_entries`` yields, telling ``advance``; raises ToolError, also for no files at all."""
    tally = Tally()
    for entry in list_entries(folder):
        tally.add(entry)
        advance(1)
    if tally.files == 0:
        raise ToolError(f"{folder} holds no files: name the folder whose files are to be packed.")
    return tally.plan()


def read(entry: Entry) -> bytes:
    """Return the file's bytes; raises ToolError when it is unreadable or no longer what was listed."""
    try:
        with entry.path.open("rb", buffering=0) as file:
            content = file.read()
            mtime_ns = os.fstat(file.fileno()).st_mtime_ns
    except OSError as error:
        raise ToolError(
            f"{entry.path} can't be read ({error.strerror}): nothing of it was packed."
        ) from None
    if len(content) != entry.size_bytes or mtime_ns != entry.mtime_ns:
        raise ToolError(f"{entry.path} changed while it was packed: pack when nobody writes there.")
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
    if status.st_size > LARGEST_FILE_BYTES:
        raise ToolError(
            f"{item.path} is over 1 GiB: a pack is for small files; leave that one as it is."
        )
    return Entry(name, Path(item.path), status.st_size, status.st_mtime_ns)


def _unlistable(error: OSError) -> ToolError:
    if isinstance(error, FileNotFoundError):
        return ToolError(
            f"{error.filename} vanished while it was listed: pack when nobody writes there."
        )
    return ToolError(
        f"{error.filename} can't be listed ({error.strerror}): let yourself read it and enter its folder."
    )
