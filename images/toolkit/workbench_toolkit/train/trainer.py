"""Trainer: lets an unmodified script with transformers' ``Trainer``, such as TRL's, stop with a checkpoint and resume.

After a stop signal the training saves an ordinary checkpoint at the end of its step, and the script exits with RESUME.
A mark in the output folder names this checkpoint. The next run under ``wb train`` continues from it; a training that
reaches its end removes the mark.
"""

from __future__ import annotations

import functools
import json
import signal
import sys
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from workbench_toolkit.checkpointing import STOP_SIGNALS
from workbench_toolkit.checkpointing.agreement import Agreement
from workbench_toolkit.distributed import shut_down_distributed
from workbench_toolkit.exit_codes import RESUME

MARK = "wb-resume.json"


def let_stop_and_resume(module: ModuleType) -> None:
    """Change ``Trainer.train`` of transformers' module; a class that inherits it changes too."""
    inner = module.Trainer.train

    @functools.wraps(inner)
    def train(self: Any, resume_from_checkpoint: Any = None, *words: Any, **named: Any) -> Any:  # noqa: ANN401
        folder = Path(self.args.output_dir)
        if not resume_from_checkpoint:
            resume_from_checkpoint = read_mark(folder)
            if resume_from_checkpoint and self.is_world_process_zero():
                _print(f"continuing from {resume_from_checkpoint}")
        stop = _build_callback(module)
        self.add_callback(stop)
        try:
            result = inner(self, resume_from_checkpoint, *words, **named)
        finally:
            self.remove_callback(stop)
        if not stop.has_stopped:
            if self.is_world_process_zero():
                (folder / MARK).unlink(missing_ok=True)
            return result
        if self.is_world_process_zero():
            write_mark(folder, self.state.global_step)
            _print(f"saved step {self.state.global_step} in {folder}")
        shut_down_distributed()
        sys.exit(RESUME)

    module.Trainer.train = train


def read_mark(folder: Path) -> str | None:
    """Return the checkpoint that the mark in ``folder`` names, None without one."""
    try:
        name = json.loads((folder / MARK).read_text(encoding="utf-8"))["checkpoint"]
        checkpoint = folder / Path(name).name
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return str(checkpoint) if checkpoint.is_dir() else None


def write_mark(folder: Path, step: int) -> None:
    """Name the checkpoint of ``step``; a reader finds the old mark or the new one."""
    unfinished = folder / f"{MARK}.unfinished"
    unfinished.write_text(json.dumps({"checkpoint": f"checkpoint-{step}"}), encoding="utf-8")
    unfinished.replace(folder / MARK)


def _build_callback(module: ModuleType) -> Any:  # noqa: ANN401 - a class of transformers
    class StopCallback(module.TrainerCallback):  # type: ignore[name-defined]
        """Ends the training after the step in which any rank got a stop signal."""

        has_stopped = False

        def __init__(self) -> None:
            self._is_signalled = False
            self._agreement = Agreement()
            self._before: dict[int, Any] = {}

        def on_train_begin(self, *_: object, **__: object) -> None:
            """Take over the stop signals, except for ignored ones, as under nohup."""
            for number in STOP_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._on_signal)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: object) -> None:  # noqa: ANN401
            """Save everything that the next run needs, and stop."""
            if state.global_step < state.max_steps and self._agreement.any_rank(self._is_signalled):
                self.has_stopped = True
                args.save_only_model = False
                control.should_save = control.should_training_stop = True
                control.should_evaluate = False

        def on_epoch_end(self, args: object, state: object, control: Any, **_: object) -> None:  # noqa: ANN401
            """Skip the evaluation of an epoch that ends with the stop."""
            if self.has_stopped:
                control.should_save = control.should_evaluate = False

        def on_train_end(self, *_: object, **__: object) -> None:
            """Give the signals back, so that the rest of the script ends as usual."""
            if not self.has_stopped:
                for number, handler in self._before.items():
                    signal.signal(number, handler)

        def _on_signal(self, number: int, _: FrameType | None) -> None:
            self._is_signalled = True
            if number == signal.SIGINT:  # a second Ctrl-C ends the script at once
                signal.signal(signal.SIGINT, self._before[signal.SIGINT])

    return StopCallback()


def _print(sentence: str) -> None:
    sys.stderr.write(f"wb train: {sentence}\n")
    sys.stderr.flush()
