"""Stands between the one who stops a training and its processes.

A signal goes to the training's processes and to nobody else: torchrun's own way also ends their DataLoader
workers, with which the step that is under way fails, and kills after 30 s whatever is being saved.
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
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SOONEST_SECONDS = 1e-6
PASSED_ON = (*STOPPING, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Supervisor:
    """One run of a command whose children, each in a session of its own, are the training's processes."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._agent: subprocess.Popen[bytes] | None = None
        self._heard: list[int] = []

    def run(self, command: Sequence[str], environment: dict[str, str]) -> int:
        """Run ``command`` to its end and return its exit code; nothing it started is left behind."""
        # whatever loses its parent becomes a child of this process, which can then end it
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        signal.signal(signal.SIGALRM, self._kill)
        for number in PASSED_ON:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                signal.signal(number, self._pass_on)
        self._agent = subprocess.Popen(  # noqa: S603 - this very Python
            command, env=environment, start_new_session=True
        )
        for early in self._heard:
            self._agent.send_signal(early)
        code = self._agent.wait()
        signal.setitimer(signal.ITIMER_REAL, 0)
        _end_children()
        leave_terminal()
        return exit_code_of(code)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        is_again = number == signal.SIGINT and number in self._heard
        self._heard.append(number)
        if self._agent is None:
            return
        if is_again:
            self._kill()
            return
        for pid in training_processes(self._agent.pid) or [self._agent.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if number in STOPPING and signal.getitimer(signal.ITIMER_REAL)[0] == 0:
            say(f"{signal.Signals(number).name}: the script has {self._grace_seconds:g} s to stop.")
            # 0 would switch the timer off
            signal.setitimer(signal.ITIMER_REAL, self._grace_seconds or SOONEST_SECONDS)

    def _kill(self, *alarm: object) -> None:
        if self._agent is None:
            return
        processes = training_processes(self._agent.pid)
        if alarm and not processes:
            return  # the script has stopped in time, and torchrun is about to
        say("the script did not stop: killing it.")
        for pid in processes or [self._agent.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def training_processes(agent: int) -> list[int]:
    """Return the children of ``agent`` that lead a session: torchrun gives each of its processes one."""
    return [pid for pid, parent, session in _processes() if parent == agent and session == pid]


def exit_code_of(return_code: int) -> int:
    """Return the shell's exit code for a ``returncode``, which is negative for a signal."""
    return return_code if return_code >= 0 else 128 - return_code


def say(sentence: str) -> None:
    """Tell the person at the terminal, if the terminal is still there."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"wb train: {sentence}\n")
        sys.stderr.flush()


def leave_terminal() -> None:
    """Drop what a terminal that is gone can't be told: Python would fail to, and end with 120."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except OSError:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - until the end


def _end_children() -> None:
    """Kill and reap what is left, generation after generation."""
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
