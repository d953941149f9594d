"""LMDB pack: ``files`` holds the contents, ``entries`` SHA-256 and name, both by position.

Positions are 8 bytes, big endian; each ``append`` is one transaction.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lmdb

from workbench_toolkit.pack.formats import (
    NO_SPACE,
    Format,
    NoSpaceError,
    Record,
    not_a_pack,
    read_name,
)
from workbench_toolkit.pack.source import Plan

POSITION = struct.Struct(">Q")
HASH_BYTES = 32
ABOUT = b"pack"
TREE_PAGES = 64
PREFETCHING_THREADS = 8
INITIAL_MAP_BYTES = 64 << 20


class LmdbWriter:
    """An unfinished LMDB pack; the caller ensures that there is one writer."""

    def __init__(self, path: Path, plan: Plan, *, is_new: bool) -> None:
        self._path = path
        self._env = lmdb.open(
            str(path), subdir=False, lock=False, max_dbs=3, map_size=INITIAL_MAP_BYTES
        )
        self._page_bytes = self._env.stat()["psize"]
        self._about = self._env.open_db(b"about")
        self._entries = self._env.open_db(b"entries")
        self._files = self._env.open_db(b"files")
        if is_new:
            self._write_metadata({"fingerprint": plan.fingerprint, "size_bytes": plan.size_bytes})

    @staticmethod
    def read_fingerprint(path: Path) -> str | None:
        """Return the fingerprint of the file's plan, or None."""
        try:
            with contextlib.closing(_open(path)) as env:
                return str(_read_metadata(env)["fingerprint"])
        except (lmdb.Error, KeyError, ValueError):
            return None

    @property
    def done_files(self) -> int:
        """The number of written files."""
        with self._env.begin() as transaction:
            return int(transaction.stat(self._entries)["entries"])

    def listed(self) -> Iterator[tuple[str, bytes]]:
        """Yield each file's name and SHA-256, in order."""
        with self._env.begin(db=self._entries) as transaction:
            for _, entry in transaction.cursor():
                yield bytes(entry[HASH_BYTES:]).decode(), bytes(entry[:HASH_BYTES])

    def append(self, records: Sequence[Record]) -> None:
        """Add the next files in one transaction; raises NoSpaceError."""
        self._reserve_space(records)
        position = self.done_files
        with self._env.begin(write=True) as transaction:
            for offset, (name, sha256, content) in enumerate(records):
                key = POSITION.pack(position + offset)
                transaction.put(key, sha256 + name.encode(), append=True, db=self._entries)
                transaction.put(key, content, append=True, db=self._files)

    def finish(self, digest: bytes) -> None:
        """Write the digest of the whole pack."""
        self._write_metadata({**_read_metadata(self._env), "digest": digest.hex()})
        os.truncate(self._path, (self._env.info()["last_pgno"] + 1) * self._page_bytes)

    def close(self) -> None:
        """Close the file."""
        self._env.close()

    def _write_metadata(self, about: dict[str, object]) -> None:
        with self._env.begin(write=True, db=self._about) as transaction:
            transaction.put(ABOUT, json.dumps(about).encode())

    def _reserve_space(self, records: Sequence[Record]) -> None:
        """Allocate disk space for ``records`` and extend the map; LMDB itself reports a full disk as an I/O error."""
        pages = len(records) + TREE_PAGES  # an upper bound for the trees
        pages += sum(len(content) // self._page_bytes + 2 for *_, content in records)
        info = self._env.info()
        end_bytes = (info["last_pgno"] + pages) * self._page_bytes
        try:
            with self._path.open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, end_bytes)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise NoSpaceError from None
            raise
        if end_bytes > info["map_size"]:
            self._env.set_mapsize(2 * end_bytes)


class LmdbReader:
    """An open LMDB pack; it opens the file again in a forked process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()
        try:
            about = _read_metadata(self._env)
            self.fingerprint: str = about["fingerprint"]
            self.size_bytes: int = about["size_bytes"]
            self.digest = bytes.fromhex(about["digest"])
        except (lmdb.Error, KeyError, ValueError):
            raise not_a_pack(path) from None

    def __len__(self) -> int:
        self._follow_fork()
        with self._env.begin() as transaction:
            return int(transaction.stat(self._entries)["entries"])

    def describe(self, index: int) -> tuple[str, bytes]:
        """Return a file's name and SHA-256."""
        self._follow_fork()
        entry = self._get(self._entries, index)
        return read_name(entry[HASH_BYTES:], self._path), entry[:HASH_BYTES]

    def content(self, index: int) -> bytes:
        """Return a file's bytes."""
        self._follow_fork()
        return self._get(self._files, index)

    def prefetch(self, indices: Sequence[int]) -> None:
        """Read several files with several threads: a single read loads its pages one by one."""
        self._follow_fork()
        parts = [indices[first::PREFETCHING_THREADS] for first in range(PREFETCHING_THREADS)]
        list(self._threads.map(self._touch, parts))

    def _touch(self, indices: Sequence[int]) -> None:
        with (
            contextlib.suppress(lmdb.Error),  # the later read finds the damage too
            self._env.begin(db=self._files, buffers=True) as transaction,
        ):
            for index in indices:
                transaction.get(POSITION.pack(index))

    def _get(self, database: lmdb._Database, index: int) -> bytes:
        try:
            with self._env.begin(db=database) as transaction:
                value = transaction.get(POSITION.pack(index))
        except lmdb.Error:
            value = None
        if value is None:
            raise not_a_pack(self._path)
        return bytes(value)

    def _follow_fork(self) -> None:
        if self._process != os.getpid():
            self._env.close()  # closes this process's copy only; LMDB refuses to open one file twice
            self._open()

    def _open(self) -> None:
        try:
            self._env = _open(self._path)
            self._entries = self._env.open_db(b"entries", create=False)
            self._files = self._env.open_db(b"files", create=False)
        except lmdb.Error:
            raise not_a_pack(self._path) from None
        self._threads = ThreadPoolExecutor(PREFETCHING_THREADS)
        self._process = os.getpid()


def _open(path: Path) -> lmdb.Environment:
    # without read-ahead, because a random read would load unneeded pages
    env = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False, max_dbs=3)
    # LMDB maps the file in its full length; a read behind the real end is a signal, not an error
    if path.stat().st_size < (env.info()["last_pgno"] + 1) * env.stat()["psize"]:
        env.close()
        raise lmdb.CorruptedError(f"{path} is truncated")
    return env


def _read_metadata(env: lmdb.Environment) -> dict[str, Any]:
    with env.begin(db=env.open_db(b"about", create=False)) as transaction:
        found: dict[str, Any] = json.loads(bytes(transaction.get(ABOUT) or b"{}"))
    return found


FORMAT = Format(LmdbWriter, LmdbReader)
