"""A guard's word without a guard, for brokers whose containers have no real network or no users on it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spawner.guard_state import write_guard_state

_SECONDS = 2.0


@contextmanager
def reporting_guard(file: Path) -> Iterator[Path]:
    """Report every two seconds that the walls are in place; yield the file of the report."""
    ended = threading.Event()

    def report() -> None:
        while not ended.is_set():
            write_guard_state(file, "")
            ended.wait(_SECONDS)

    write_guard_state(file, "")
    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield file
    finally:
        ended.set()
        thread.join()
