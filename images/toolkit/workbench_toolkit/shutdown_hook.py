"""Shutdown hook: a Jupyter server extension that lets trainings save before their container ends.

The container ends with its server, and the kernel kills all other processes in it.
Therefore the server's process stops each ``wb train`` at its own end and waits for it, up to Docker's stop timeout.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import time
from pathlib import Path

AGENT = b"workbench_toolkit.train.agent"
POLL_SECONDS = 0.05


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Return the extension's module."""
    return [{"module": "workbench_toolkit.shutdown_hook"}]


def _load_jupyter_server_extension(_: object) -> None:
    """Register the hook for the end of the server's process."""
    atexit.register(stop_trainings)


def stop_trainings() -> None:
    """Send SIGTERM to every ``wb train`` and wait for the last one to end."""
    for pid in _list_supervisors():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    while _list_supervisors():
        time.sleep(POLL_SECONDS)


def _list_supervisors() -> set[int]:
    """Return the supervisors' process ids, each the first argument of its agent."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if AGENT in words:
                found.add(int(words[words.index(AGENT) + 1]))
    return found
