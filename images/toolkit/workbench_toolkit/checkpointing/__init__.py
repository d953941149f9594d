"""Checkpointing: saves a training run when it has to stop, and restores it in the next run.

    checkpointer = Checkpointer("checkpoint.pt")
    …
        if checkpointer.should_stop: checkpointer.stop({"model": model.state_dict(), "step": step})

After a signal to any rank, all ranks stop at the same step with exit code RESUME.
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
from workbench_toolkit.distributed import shut_down_distributed
from workbench_toolkit.exit_codes import RESUME

__all__ = ["RESUME", "Checkpointer"]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Checkpointer:
    """Handles the stop signals of a run, and owns its checkpoint.

    It has to be created in the main thread. SIGTERM, SIGHUP and the first Ctrl-C then no longer end the process;
    the script ends itself after its step. A second Ctrl-C has its former effect, and an ignored signal stays ignored.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._is_signalled = False
        self._agreement = Agreement()
        self._interrupt = signal.getsignal(signal.SIGINT)
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._on_signal)

    @property
    def should_stop(self) -> bool:
        """Whether to stop after this step; every rank reads it once per step and gets the same answer.

        With several ranks the answer is one step old, so that no rank waits for it.
        """
        return self._agreement.any_rank(self._is_signalled)

    def stop(self, state: Mapping[str, Any]) -> NoReturn:
        """Save ``state`` and exit with RESUME; every rank calls it."""
        self.save(state)
        shut_down_distributed()
        sys.exit(RESUME)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the checkpoint atomically; every rank calls it, and rank 0's ``state`` is written.

        The checkpoint includes the random generators of every rank. Raises ToolError when the write fails.
        Also raises it for a ``state`` that ``load`` would refuse, which goes into a ``.rejected`` file.
        """
        save_checkpoint(self.path, state)

    def load(self) -> dict[str, Any] | None:
        """Return the last saved state, on the CPU, and restore the random generators; None without a checkpoint."""
        return load_checkpoint(self.path)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._is_signalled = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._interrupt)
