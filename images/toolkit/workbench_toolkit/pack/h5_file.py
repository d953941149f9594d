"""HDF5 pack: ``files`` and ``names`` are concatenations; ``file_end`` and ``name_end`` are the ends of their items.

HDF5 allocates all datasets once, contiguous and with their final size. Afterwards their bytes are written in place.
Therefore a crash leaves no partial file structure, and a read is one ``pread``.
"""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from workbench_toolkit.pack.formats import (
    NO_SPACE,
    Format,
    NoSpaceError,
    Record,
    not_a_pack,
    read_name,
)
from workbench_toolkit.pack.source import MAX_FILE_BYTES, Plan

HASH_BYTES = 32
DATASETS = {"done", "digest", "name_end", "file_end", "sha256", "names", "files"}
READAHEAD_BYTES = 128 << 10
"""The maximum of Linux for one read-ahead request."""

UNREADABLE = (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError)
"""The exceptions of h5py for a file that is not HDF5 or has another layout."""

END = struct.Struct("<Q")
ENDS = struct.Struct("<QQ")


class H5Writer:
    """An unfinished HDF5 pack; the caller ensures that there is one writer."""

    def __init__(self, path: Path, plan: Plan, *, is_new: bool) -> None:
        if is_new:
            _lay_out(path, plan)
        with h5py.File(path, "r", locking=False) as file:
            self._offsets = _offsets(file)
            self._done = int(file["done"][0])
            last = self._done - 1
            self._file_end = int(file["file_end"][last]) if self._done else 0
            self._name_end = int(file["name_end"][last]) if self._done else 0
        self._descriptor = os.open(path, os.O_RDWR)

    @staticmethod
    def read_fingerprint(path: Path) -> str | None:
        """Return the fingerprint of the file's plan, or None."""
        try:
            with h5py.File(path, "r", locking=False) as file:
                _offsets(file)
                return str(file.attrs["fingerprint"])
        except UNREADABLE:
            return None

    @property
    def done_files(self) -> int:
        """The number of written files."""
        return self._done

    def listed(self) -> Iterator[tuple[str, bytes]]:
        """Yield each file's name and SHA-256, in order."""
        begin = 0
        for index in range(self._done):
            end = END.unpack(self._read("name_end", END.size * index, END.size))[0]
            name = self._read("names", begin, end - begin)
            yield name.decode(), self._read("sha256", HASH_BYTES * index, HASH_BYTES)
            begin = end

    def append(self, records: Sequence[Record]) -> None:
        """Write the next files, and count them after they are on the disk; raises NoSpaceError."""
        names = [name.encode() for name, _, _ in records]
        name_ends = self._name_end + np.cumsum([len(name) for name in names], dtype="<u8")
        file_ends = self._file_end + np.cumsum(
            [len(content) for *_, content in records], dtype="<u8"
        )
        try:
            self._write("names", self._name_end, b"".join(names))
            self._write("name_end", END.size * self._done, name_ends.tobytes())
            self._write("file_end", END.size * self._done, file_ends.tobytes())
            self._write(
                "sha256", HASH_BYTES * self._done, b"".join(sha256 for _, sha256, _ in records)
            )
            self._write("files", self._file_end, b"".join(content for *_, content in records))
            os.fsync(self._descriptor)
            self._write("done", 0, END.pack(self._done + len(records)))
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise NoSpaceError from None
            raise
        self._done += len(records)
        self._name_end, self._file_end = int(name_ends[-1]), int(file_ends[-1])

    def finish(self, digest: bytes) -> None:
        """Write the digest of the whole pack."""
        self._write("digest", 0, digest)
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _read(self, dataset: str, at: int, size_bytes: int) -> bytes:
        return os.pread(self._descriptor, size_bytes, self._offsets[dataset] + at)

    def _write(self, dataset: str, at: int, content: bytes) -> None:
        rest = memoryview(content)
        offset = self._offsets[dataset] + at
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            rest, offset = rest[written:], offset + written


class H5Reader:
    """An open HDF5 pack; it reads at absolute offsets, so that threads and forks can share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with h5py.File(path, "r", locking=False) as file:
                self._offsets = _offsets(file)
                self.fingerprint = str(file.attrs["fingerprint"])
                self.size_bytes = int(file.attrs["size_bytes"])
                self._count = int(file.attrs["files"])
                self.digest = bytes(file["digest"][:])
                done = int(file["done"][0])
        except UNREADABLE:
            raise not_a_pack(path) from None
        if done != self._count:
            raise not_a_pack(path)
        self._descriptor = os.open(path, os.O_RDONLY)
        self._file_bytes = os.fstat(self._descriptor).st_size
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        weakref.finalize(self, os.close, self._descriptor)
        self._read_ahead(self._offsets["name_end"], END.size * self._count)
        self._read_ahead(self._offsets["file_end"], END.size * self._count)

    def __len__(self) -> int:
        return self._count

    def describe(self, index: int) -> tuple[str, bytes]:
        """Return a file's name and SHA-256."""
        name = self._read("names", *self._bounds("name_end", index))
        sha256 = self._read("sha256", HASH_BYTES * index, HASH_BYTES * (index + 1))
        return read_name(name, self._path), sha256

    def content(self, index: int) -> bytes:
        """Return a file's bytes."""
        return self._read("files", *self._bounds("file_end", index))

    def prefetch(self, indices: Sequence[int]) -> None:
        """Start reading several files ahead, without waiting."""
        for index in indices:
            begin, end = self._bounds("file_end", index)
            self._read_ahead(self._offsets["files"] + begin, end - begin)

    def _read_ahead(self, at: int, size_bytes: int) -> None:
        for begin in range(at, at + size_bytes, READAHEAD_BYTES):
            rest = min(READAHEAD_BYTES, at + size_bytes - begin)
            os.posix_fadvise(self._descriptor, begin, rest, os.POSIX_FADV_WILLNEED)

    def _bounds(self, ends: str, index: int) -> tuple[int, int]:
        if not 0 <= index < self._count:
            raise IndexError(index)
        if index == 0:
            pair = bytes(END.size) + self._read(ends, 0, END.size)
        else:
            pair = self._read(ends, END.size * (index - 1), END.size * (index + 1))
        begin, end = ENDS.unpack(pair)
        if not begin <= end <= min(begin + MAX_FILE_BYTES, self._file_bytes):
            raise not_a_pack(self._path)
        return begin, end

    def _read(self, dataset: str, begin: int, end: int) -> bytes:
        content = os.pread(self._descriptor, end - begin, self._offsets[dataset] + begin)
        if len(content) != end - begin:
            raise not_a_pack(self._path)
        return content


def _lay_out(path: Path, plan: Plan) -> None:
    try:
        _create(path, plan)
    except (OSError, RuntimeError) as error:  # h5py loses the error number when it closes the file
        if any(os.strerror(number) in str(error) for number in NO_SPACE):
            raise NoSpaceError from None
        raise
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _create(path: Path, plan: Plan) -> None:
    with h5py.File(path, "w", locking=False) as file:
        file.attrs["fingerprint"] = plan.fingerprint
        file.attrs["size_bytes"] = plan.size_bytes
        file.attrs["files"] = plan.files
        _add(file, "done", (1,), "<u8")
        _add(file, "digest", (HASH_BYTES,), "u1")
        _add(file, "name_end", (plan.files,), "<u8")
        _add(file, "file_end", (plan.files,), "<u8")
        _add(file, "sha256", (plan.files, HASH_BYTES), "u1")
        _add(file, "names", (plan.name_bytes,), "u1")
        _add(file, "files", (max(plan.size_bytes, 1),), "u1")


def _offsets(file: h5py.File) -> dict[str, int]:
    """Return the offset of each dataset in the file; raises KeyError for another layout."""
    offsets = {name: file[name].id.get_offset() for name in DATASETS}
    if None in offsets.values():
        raise KeyError("a dataset is not contiguous")
    return offsets


def _add(file: h5py.File, name: str, shape: tuple[int, ...], dtype: str) -> None:
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind = h5py.h5t.py_create(np.dtype(dtype))
    h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), dcpl=layout)


FORMAT = Format(H5Writer, H5Reader)
