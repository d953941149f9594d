"""A Jupyter server extension that lets trainings save before a server is gone.

A container ends with its server, and whatever else runs there is killed: so the server, once it has stopped,
stops each ``wb train`` and waits for it. Whoever stops the container bounds that, with Docker's own time.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import time
from pathlib import Path

AGENT = b"workbench_toolkit.train.agent"
LOOK_SECONDS = 0.05


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Tell Jupyter where the extension is."""
    return [{"module": "workbench_toolkit.shutdown_hook"}]


def _load_jupyter_server_extension(_: object) -> None:
    """Do it when the server's process ends."""
    atexit.register(stop_trainings)


def stop_trainings() -> None:
    """Send SIGTERM to every ``wb train`` and return when the last one has ended."""
    for pid in _trainings():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    while _trainings():
        time.sleep(LOOK_SECONDS)


def _trainings() -> set[int]:
    """Return the processes in front of the agents, whose first word they are."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if AGENT in words:
                found.add(int(words[words.index(AGENT) + 1]))
    return found
