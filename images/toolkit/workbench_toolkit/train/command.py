"""Subcommand ``wb train -- script.py …``: runs torchrun on the GPUs of this container."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from workbench_toolkit.errors import ToolError
from workbench_toolkit.train.supervisor import Supervisor, print_status

GRACE_SECONDS = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.usage = "wb train [--nproc N] [--run DIR] [--grace SECONDS] -- SCRIPT [WORD...]"
    parser.add_argument(
        "--nproc",
        default="auto",
        metavar="N",
        help="number of processes; auto: one per GPU, one without GPUs",
    )
    parser.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="the folder for logs and TensorBoard's files (runs/SCRIPT)",
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=GRACE_SECONDS,
        metavar="SECONDS",
        help="time for the script to stop after SIGTERM, SIGHUP or Ctrl-C (%(default)g); 0 kills it at once",
    )
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="SCRIPT", help="the script and its arguments"
    )


def run(arguments: argparse.Namespace) -> int:
    """Train and return the script's exit code; 128 + N for signal N."""
    words: list[str] = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    nproc: str = arguments.nproc
    if nproc != "auto" and not (nproc.isdecimal() and int(nproc) > 0):
        raise ToolError(f"--nproc {nproc} is invalid: give a number above 0, or auto.")
    if not 0 <= arguments.grace <= threading.TIMEOUT_MAX:  # a timer takes no more
        raise ToolError(f"--grace {arguments.grace:g} is invalid: give seconds, 0 or more.")
    if not words:
        raise ToolError("The script is missing: wb train -- script.py.")
    is_module = words[0] == "-m" and len(words) > 1
    script = words[1] if is_module else words[0]
    if not is_module and not Path(script).is_file():
        raise ToolError(f"{script} is not a file: give the path of a training script.")
    folder = arguments.run or Path("runs") / Path(script).stem
    command = [sys.executable, "-m", "workbench_toolkit.train.agent", str(os.getpid()), nproc]
    command += [*_torchrun_words(_log_folder(folder)), *words]
    return Supervisor(arguments.grace).run(command, _environment(folder))


def _log_folder(run_folder: Path) -> Path:
    folder = (run_folder / "logs").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(
            f"{folder} can't be created ({error.strerror}): give a writable folder with --run."
        ) from None
    print_status(f"the output of each process goes to {folder}")
    return folder


def _torchrun_words(log_folder: Path) -> list[str]:
    """Return torchrun's options: one node, and the output of each process in a file."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    return [
        "--rdzv-backend=loopback",  # train/rendezvous.py
        "--rdzv-endpoint=127.0.0.1",  # without one torchrun warns
        "--local-addr=127.0.0.1",  # a container's own name may not resolve
        f"--rdzv-id={now}-{secrets.token_hex(16)}",
        f"--log-dir={log_folder}",
        "--tee=3",
        "--local-ranks-filter=0",  # the terminal has rank 0's output, the files have all
    ]


def _environment(run_folder: Path) -> dict[str, str]:
    board = str((run_folder / "tensorboard").absolute())
    defaults = {
        "TENSORBOARD_LOGDIR": board,
        "TENSORBOARD_LOGGING_DIR": board,  # the name for transformers' Trainer
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
    }
    # train/import_hook.py reads it
    return {**defaults, **os.environ, "WB_TRAIN": "1"}
