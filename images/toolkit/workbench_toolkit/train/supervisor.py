"""Training supervisor: forwards signals to a training's processes and kills them after the grace period.

torchrun's own handling also signals their DataLoader workers, so that the current step fails.
It also kills all processes after 30 s, even during a save.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

PR_SET_CHILD_SUBREAPER = 36
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MIN_TIMER_SECONDS = 1e-6
FORWARDED_SIGNALS = (*STOP_SIGNALS, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Supervisor:
    """One run of the agent, whose children in their own sessions are the training's processes."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._agent: subprocess.Popen[bytes] | None = None
        self._received: list[int] = []

    def run(self, command: Sequence[str], environment: dict[str, str]) -> int:
        """Run ``command`` to its end and return its exit code; all processes that it started end too."""
        # orphans become children of this process, which can then end them
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        signal.signal(signal.SIGALRM, self._kill)
        for number in FORWARDED_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._forward)
        self._agent = subprocess.Popen(  # noqa: S603 - this interpreter
            command, env=environment, start_new_session=True
        )
        for early_signal in self._received:
            self._agent.send_signal(early_signal)
        code = self._agent.wait()
        signal.setitimer(signal.ITIMER_REAL, 0)
        _kill_children()
        discard_unwritable_output()
        return exit_code_of(code)

    def _forward(self, number: int, _: FrameType | None) -> None:
        is_second_interrupt = number == signal.SIGINT and number in self._received
        self._received.append(number)
        if self._agent is None:
            return
        if is_second_interrupt:
            self._kill()
            return
        for pid in training_processes(self._agent.pid) or [self._agent.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if number in STOP_SIGNALS and signal.getitimer(signal.ITIMER_REAL)[0] == 0:
            print_status(
                f"{signal.Signals(number).name}: the script has {self._grace_seconds:g} s to stop."
            )
            # a timer of 0 would be off
            signal.setitimer(signal.ITIMER_REAL, self._grace_seconds or MIN_TIMER_SECONDS)

    def _kill(self, *alarm: object) -> None:
        if self._agent is None:
            return
        processes = training_processes(self._agent.pid)
        if alarm and not processes:
            return  # the script has stopped in time, and torchrun is about to stop
        print_status("the script did not stop: killing it.")
        for pid in processes or [self._agent.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def training_processes(agent: int) -> list[int]:
    """Return the children of ``agent`` that lead a session: torchrun gives each of its processes one."""
    return [pid for pid, parent, session in _processes() if parent == agent and session == pid]


def exit_code_of(return_code: int) -> int:
    """Return the shell's exit code for a ``returncode``, which is negative for a signal."""
    return return_code if return_code >= 0 else 128 - return_code


def print_status(sentence: str) -> None:
    """Write ``sentence`` to stderr; a closed terminal is ignored."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"wb train: {sentence}\n")
        sys.stderr.flush()


def discard_unwritable_output() -> None:
    """Discard buffered output for a closed terminal: Python's own flush would fail and exit with 120."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except OSError:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open until the process ends


def _kill_children() -> None:
    """Kill and reap all remaining children, also those of killed children."""
    while left := [pid for pid, parent, _ in _processes() if parent == os.getpid()]:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _processes() -> list[tuple[int, int, int]]:
    """Return every process's id, parent and session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            found.append((int(folder.name), int(fields[1]), int(fields[3])))
    return found
