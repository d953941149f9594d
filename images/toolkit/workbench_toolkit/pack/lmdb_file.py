"""A pack as one LMDB file: ``files`` holds the contents, ``entries`` SHA-256 and name, both by position.

Positions are 8 bytes, big endian; one transaction per ``append`` makes it whole or nothing.
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

from workbench_toolkit.pack.formats import NO_SPACE, NoSpaceError, Record, not_a_pack, read_name
from workbench_toolkit.pack.source import Plan

POSITION = struct.Struct(">Q")
HASH_BYTES = 32
ABOUT = b"pack"
TREE_PAGES = 64
PREFETCHING_THREADS = 8
FIRST_MAP_BYTES = 64 << 20


class Writer:
    """An unfinished LMDB pack; the caller sees to it that there is one writer."""

    def __init__(self, path: Path, plan: Plan, *, is_new: bool) -> None:
        self._path = path
        self._env = lmdb.open(
            str(path), subdir=False, lock=False, max_dbs=3, map_size=FIRST_MAP_BYTES
        )
        self._page_bytes = self._env.stat()["psize"]
        self._about = self._env.open_db(b"about")
        self._entries = self._env.open_db(b"entries")
        self._files = self._env.open_db(b"files")
        if is_new:
            self._note({"fingerprint": plan.fingerprint, "size_bytes": plan.size_bytes})

    @staticmethod
    def begun_for(path: Path) -> str | None:
        """Return the fingerprint it was laid out for, or None."""
        try:
            with contextlib.closing(_open(path)) as env:
                return str(_about(env)["fingerprint"])
        except (lmdb.Error, KeyError, ValueError):
            return None

    @property
    def done_files(self) -> int:
        """How many files it holds."""
        with self._env.begin() as transaction:
            return int(transaction.stat(self._entries)["entries"])

    def listed(self) -> Iterator[tuple[str, bytes]]:
        """Yield each file's name and SHA-256, in order."""
        with self._env.begin(db=self._entries) as transaction:
            for _, entry in transaction.cursor():
                yield bytes(entry[HASH_BYTES:]).decode(), bytes(entry[:HASH_BYTES])

    def append(self, records: Sequence[Record]) -> None:
        """Add the next files in one transaction; raises NoSpaceError."""
        self._make_room(records)
        position = self.done_files
        with self._env.begin(write=True) as transaction:
            for offset, (name, sha256, content) in enumerate(records):
                key = POSITION.pack(position + offset)
                transaction.put(key, sha256 + name.encode(), append=True, db=self._entries)
                transaction.put(key, content, append=True, db=self._files)

    def finish(self, digest: bytes) -> None:
        """Note the digest of the whole."""
        self._note({**_about(self._env), "digest": digest.hex()})
        os.truncate(self._path, (self._env.info()["last_pgno"] + 1) * self._page_bytes)

    def close(self) -> None:
        """Let go of the file."""
        self._env.close()

    def _note(self, about: dict[str, object]) -> None:
        with self._env.begin(write=True, db=self._about) as transaction:
            transaction.put(ABOUT, json.dumps(about).encode())

    def _make_room(self, records: Sequence[Record]) -> None:
        """Reserve disk for what comes, as LMDB calls a full disk an I/O error, and widen the map over it."""
        pages = len(records) + TREE_PAGES  # of the trees, generously
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


class Reader:
    """An open LMDB pack; opens itself anew in a process that was forked with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()
        try:
            about = _about(self._env)
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
        """Read several files by several threads: one read touches its pages one after another."""
        self._follow_fork()
        parts = [indices[first::PREFETCHING_THREADS] for first in range(PREFETCHING_THREADS)]
        list(self._threads.map(self._touch, parts))

    def _touch(self, indices: Sequence[int]) -> None:
        with (
            contextlib.suppress(lmdb.Error),  # the read that follows finds the damage too
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
            self._env.close()  # this process's copy only: LMDB refuses to open one file twice
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
    # without read-ahead: a random read would bring in pages that nobody asked for
    env = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False, max_dbs=3)
    # LMDB maps the file as long as it should be: to read behind its end is a signal, not an error
    if path.stat().st_size < (env.info()["last_pgno"] + 1) * env.stat()["psize"]:
        env.close()
        raise lmdb.CorruptedError(f"{path} is cut off")
    return env


def _about(env: lmdb.Environment) -> dict[str, Any]:
    with env.begin(db=env.open_db(b"about", create=False)) as transaction:
        found: dict[str, Any] = json.loads(bytes(transaction.get(ABOUT) or b"{}"))
    return found
