"""The ledger's file in the protocol's world: made quickly, and read by other means than the product's."""

from __future__ import annotations

import atexit
import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import NamedTuple

from spawner.ledger import Ledger
from tests.unit.controller_env import SETTINGS

FAST_DISK = Path("/dev/shm")


def make_folder() -> Path:
    """Return a new folder, in memory where that can be; the caller removes it."""
    return Path(tempfile.mkdtemp(dir=FAST_DISK if FAST_DISK.is_dir() else None))


class StoredEntry(NamedTuple):
    """The ledger's tables apart from the leases.

    ``claims`` are the leases by GPU, ``drained`` since when each GPU is, ``adopted`` the trail's subjects.
    """

    claims: dict[str, str]
    quarantined: set[str]
    drained: dict[str, float]
    adopted: set[str]


def read_past_the_product(path: Path) -> StoredEntry:
    """Return what is written, by a connection of its own."""
    with closing(sqlite3.connect(path)) as connection:
        read = connection.execute
        return StoredEntry(
            dict(read("SELECT gpu_uuid, lease_id FROM claims")),
            {
                uuid
                for (uuid,) in read("SELECT gpu_uuid FROM quarantines WHERE returned_at IS NULL")
            },
            dict(read("SELECT gpu_uuid, since FROM drains")),
            {
                lease
                for (lease,) in read("SELECT subject FROM trail WHERE action = 'lease.adopted'")
            },
        )


@cache
def new_ledger() -> Path:
    """Return a file with a ledger's tables, and nothing in them: making them takes as long as ten steps."""
    folder = make_folder()
    atexit.register(shutil.rmtree, folder)
    path = folder / "ledger.sqlite"
    Ledger.open(f"sqlite:///{path}", first_uid=SETTINGS.first_uid).close()
    return path
