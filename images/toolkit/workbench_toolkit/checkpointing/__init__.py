"""Stops a training run in time: ask once per step, save once, and be started again later.

    grace = Grace("checkpoint.pt")
    …
        if grace.should_stop: grace.stop({"model": model.state_dict(), "step": step})

All ranks stop at the same step, whichever of them heard the signal, and leave with exit code RESUME.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from workbench_toolkit.checkpointing.agreement import Agreement
from workbench_toolkit.checkpointing.checkpoint import load_checkpoint, save_checkpoint
from workbench_toolkit.exit_codes import RESUME
from workbench_toolkit.train.ranks import leave

__all__ = ["RESUME", "Grace"]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Grace:
    """Hears the signals that end a run, and keeps the run's checkpoint.

    Made in the main thread. SIGTERM, SIGHUP and the first Ctrl-C then no longer end the process: the
    script does, at the end of its step. A second Ctrl-C does what it always did, and a signal that was
    ignored stays ignored.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._heard = False
        self._agreement = Agreement()
        self._interrupt = signal.getsignal(signal.SIGINT)
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                signal.signal(number, self._hear)

    @property
    def should_stop(self) -> bool:
        """Whether to stop after this step; every rank reads it once in every step, and gets the same answer.

        With several ranks the answer is that of one step ago, so that nobody waits for it.
        """
        return self._agreement.any_rank(self._heard)

    def stop(self, state: Mapping[str, Any]) -> NoReturn:
        """Save ``state`` and leave with exit code RESUME; every rank calls it."""
        self.save(state)
        leave()
        sys.exit(RESUME)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the checkpoint, whole or not at all; every rank calls it, rank 0's state is kept.

        The random generators' states of every rank go with it. Raises ToolError where that fails, or where
        ``state`` holds what ``load`` would refuse; then it goes into a file beside the checkpoint.
        """
        save_checkpoint(self.path, state)

    def load(self) -> dict[str, Any] | None:
        """Return the state that was saved last, on the CPU, and set the random generators; None at first."""
        return load_checkpoint(self.path)

    def _hear(self, number: int, _: FrameType | None) -> None:
        self._heard = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._interrupt)
