"""Packing: packs a folder, resumes an interrupted run, and verifies a pack against its checksums.

A pack has another name until it is complete, so that ``out.lmdb`` is always a complete pack.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from workbench_toolkit.errors import ToolError
from workbench_toolkit.pack.formats import (
    Format,
    NoSpaceError,
    PackReader,
    PackWriter,
    Record,
    get_format,
    open_reader,
)
from workbench_toolkit.pack.source import Entry, Plan, Tally, list_entries, plan, read

BATCH_FILES = 2048
BATCH_BYTES = 32 << 20
READING_THREADS = 8

Advance = Callable[[int], object]
"""Receives the number of further processed files."""

Begin = Callable[[str, int | None], Advance]
"""Receives the name of a beginning phase and its number of files, if known."""


@dataclass(frozen=True)
class Packed:
    """A finished pack; ``digest`` is the hexadecimal SHA-256 over all names and checksums in order."""

    files: int
    size_bytes: int
    digest: str
    was_there: bool


def pack(folder: Path, out: Path, begin: Begin) -> Packed:
    """Pack ``folder`` into ``out`` and report progress to ``begin``; raises ToolError."""
    form = get_format(out)
    if not folder.is_dir():
        raise ToolError(f"{folder} is not a folder: give the folder with the files to pack.")
    if out.resolve().is_relative_to(folder.resolve()):
        raise ToolError(f"{out} is inside {folder}: write the pack to another folder.")
    wanted = plan(folder, begin("listing", None))
    if out.exists():
        return _accept(out, wanted)
    partial = out.with_name(f"{out.name}.partial")
    with _exclusive(partial):
        try:
            digest = _fill(form, partial, folder, wanted, begin)
        except NoSpaceError:
            raise ToolError(
                f"{out.parent} has no space left: free some and run the same command again, which resumes."
            ) from None
        partial.rename(out)
    return Packed(wanted.files, wanted.size_bytes, digest.hex(), was_there=False)


def verify(out: Path, begin: Begin) -> tuple[Packed, list[str]]:
    """Read a whole pack; return its summary and the names of damaged files.

    A file with a damaged name is called ``file N``, from 1 on.
    """
    reader = open_reader(out)
    advance = begin("verifying", len(reader))
    damaged = []
    for index in range(len(reader)):
        if name := _name_if_damaged(reader, index):
            damaged.append(name)
        advance(1)
    listed = (reader.describe(index) for index in range(len(reader)))
    if not damaged and digest_of(listed) != reader.digest:
        raise ToolError(f"{out} has a damaged file list: pack its folder again.")
    return Packed(len(reader), reader.size_bytes, reader.digest.hex(), was_there=True), damaged


def digest_of(listed: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the SHA-256 over every name and checksum in order."""
    whole = hashlib.sha256()
    for name, sha256 in listed:
        whole.update(name.encode() + b"\0" + sha256)
    return whole.digest()


def _name_if_damaged(reader: PackReader, index: int) -> str | None:
    """Return the name of a damaged file, None for an intact one."""
    name = f"file {index + 1}"
    try:
        name, sha256 = reader.describe(index)
        is_whole = hashlib.sha256(reader.content(index)).digest() == sha256
    except ToolError:
        is_whole = False
    return None if is_whole else name


def _accept(out: Path, wanted: Plan) -> Packed:
    reader = open_reader(out)
    if reader.fingerprint != wanted.fingerprint:
        raise ToolError(
            f"{out} exists and was packed from other files: remove it or choose another name."
        )
    return Packed(len(reader), reader.size_bytes, reader.digest.hex(), was_there=True)


@contextlib.contextmanager
def _exclusive(partial: Path) -> Iterator[None]:
    """Lock the unfinished pack against a second `wb pack`."""
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise ToolError(
            f"{partial} can't be written ({error.strerror}): choose a writable folder."
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ToolError(f"{partial} is in use by another `wb pack`: wait for its end.") from None
    finally:
        os.close(descriptor)


def _fill(form: Format, partial: Path, folder: Path, wanted: Plan, begin: Begin) -> bytes:
    """Add the missing files and return the digest of the whole pack."""
    with contextlib.closing(_begin(form, partial, wanted)) as writer:
        advance = begin("packing", wanted.files)
        advance(writer.done_files)
        _copy(folder, wanted, writer, advance)
        digest = digest_of(writer.listed())
        writer.finish(digest)
    return digest


def _begin(form: Format, partial: Path, wanted: Plan) -> PackWriter:
    read_fingerprint = form.writer.read_fingerprint(partial) if partial.stat().st_size else None
    if read_fingerprint == wanted.fingerprint:
        return form.writer(partial, wanted, is_new=False)
    if read_fingerprint is not None:
        raise ToolError(
            f"The files changed since {partial} was started: remove it to pack from the beginning."
        )
    free_bytes = shutil.disk_usage(partial.parent).free
    if free_bytes < wanted.size_bytes:
        raise ToolError(
            f"{partial.parent} has {free_bytes / 1e9:.1f} GB free, and the files need "
            f"{wanted.size_bytes / 1e9:.1f} GB: free some or choose another folder."
        )
    os.truncate(partial, 0)  # a crash during the preparation leaves a partial layout without files
    return form.writer(partial, wanted, is_new=True)


def _copy(folder: Path, wanted: Plan, writer: PackWriter, advance: Advance) -> None:
    entries = check_unchanged(list_entries(folder), wanted)
    for _ in itertools.islice(entries, writer.done_files):
        pass
    with ThreadPoolExecutor(READING_THREADS) as pool:
        for batch in _batches(entries):
            writer.append(list(pool.map(_load, batch)))
            advance(len(batch))


def check_unchanged(entries: Iterable[Entry], wanted: Plan) -> Iterator[Entry]:
    """Yield ``entries`` while they agree with the plan; raises ToolError for a difference."""
    seen = Tally()
    for entry in entries:
        seen.add(entry)
        if (
            seen.files > wanted.files
            or seen.size_bytes > wanted.size_bytes
            or seen.name_bytes > wanted.name_bytes
        ):
            break
        yield entry
    if seen.plan() != wanted:
        raise ToolError(
            "The files changed while they were packed: stop all writers and pack again."
        )


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size_bytes = 0
    for entry in entries:
        if batch and (len(batch) == BATCH_FILES or size_bytes + entry.size_bytes > BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(entry)
        size_bytes += entry.size_bytes
    if batch:
        yield batch


def _load(entry: Entry) -> Record:
    content = read(entry)
    return entry.name, hashlib.sha256(content).digest(), content
