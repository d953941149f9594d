"""Runs torchrun, and ends with the exit code of the process that failed first.

torchrun itself ends with 1 for every failure. Run as ``python -m workbench_toolkit.train.agent``, in a
session of its own: the command in front of it passes signals on to the training's processes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.run import parse_args
from torch.distributed.run import run as run_torchrun

from workbench_toolkit.exit_codes import RESUME
from workbench_toolkit.train import rendezvous
from workbench_toolkit.train.cores import usable_cores
from workbench_toolkit.train.supervisor import exit_code_of, leave_terminal, say

PR_SET_PDEATHSIG = 1
BAD_REQUEST = 2
CONSEQUENCES = {1: 1, -signal.SIGABRT: 1, -signal.SIGTERM: 2}
"""How a process ends that lost its peer, the likelier cause first: a traceback, NCCL's abort, torchrun's signal."""


def main(parent: int, nproc: str, words: list[str]) -> int:
    """Run torchrun with ``words``; ``nproc`` is a number or ``auto``."""
    _end_with(parent)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    processes = max(gpus, 1) if nproc == "auto" else int(nproc)
    if gpus and processes > gpus:
        say(
            f"{processes} processes were asked for, but this container was given {gpus} GPU(s): "
            "leave --nproc out to use them all."
        )
        return BAD_REQUEST
    where = "one GPU each (nccl)" if gpus else "the CPU (gloo)"
    say(f"{processes} process(es) on {where}")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // processes)))
    wanted = parse_args([f"--nproc-per-node={processes}", *words])  # type: ignore[no-untyped-call]
    rendezvous.register()
    try:
        run_torchrun(wanted)  # type: ignore[no-untyped-call]
    except ChildFailedError as failed:
        return _report(failed.failures, Path(wanted.log_dir), wanted.rdzv_id)
    return 0


def _report(failures: dict[int, ProcessFailure], log_folder: Path, run_id: str) -> int:
    rank, first = min(
        failures.items(),
        key=lambda item: (CONSEQUENCES.get(item[1].exitcode, 0), item[1].timestamp),
    )
    code = exit_code_of(first.exitcode)
    if code == RESUME:
        say("stopped with a checkpoint; the same command goes on from there.")
    else:
        logs = next(log_folder.glob(f"{run_id}_*/attempt_0/{first.local_rank}"), log_folder)
        say(f"rank {rank} ended with exit code {code}; its output is in {logs}")
    return code


def _end_with(parent: int) -> None:
    """Be ended by SIGTERM, which torchrun passes on, when the command in front is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # torchrun's tee never flushes
    exit_code = main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
    leave_terminal()
    sys.exit(exit_code)
