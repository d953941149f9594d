"""Train helpers: start ``wb train`` as a process and wait for its effects."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STEPS = Path(__file__).with_name("training_script.py")
DEADLINE_SECONDS = 120
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
"""Trainings run in other folders with this checkout's toolkit."""


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Return once ``is_so``; fail after the deadline."""
    until = time.monotonic() + DEADLINE_SECONDS
    while not is_so():
        assert time.monotonic() < until, f"this did not happen: {what}"
        time.sleep(0.02)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "workbench_toolkit.cli", "train", *map(str, words)]


@contextmanager
def training(folder: Path, *words: object) -> Iterator[subprocess.Popen[str]]:
    """Run ``wb train`` in ``folder`` and kill it afterwards; ``output_of`` returns its output."""
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            command(*words),
            cwd=folder,
            env=ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run(folder: Path, *words: object) -> tuple[int, str]:
    """Run ``wb train`` to its end; return its exit code and its output."""
    with training(folder, *words) as process:
        code = process.wait(DEADLINE_SECONDS)
    return code, output_of(folder)


def output_of(folder: Path) -> str:
    return (folder / "output").read_text()


def steps(folder: Path, rank: int) -> list[int]:
    path = folder / f"steps.{rank}"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def processes_of(words: Sequence[str]) -> list[int]:
    """Return the processes with all of ``words`` in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if all(word in line for word in words) and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> int:
    """Send the signal and return the exit code."""
    process.send_signal(number)
    return process.wait(DEADLINE_SECONDS)
