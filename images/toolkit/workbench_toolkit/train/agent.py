"""Training agent: runs torchrun and exits with the code of the process that failed first.

torchrun itself exits with 1 for every failure. The supervisor starts ``python -m workbench_toolkit.train.agent``
in its own session, and forwards signals to the training's processes.
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

from workbench_toolkit.cores import usable_cores
from workbench_toolkit.exit_codes import RESUME
from workbench_toolkit.train import rendezvous
from workbench_toolkit.train.supervisor import discard_unwritable_output, exit_code_of, print_status

PR_SET_PDEATHSIG = 1
USAGE_ERROR = 2
TAIL_LINES, TAIL_BYTES = 20, 16384
SECONDARY_EXIT_CODES = {1: 1, -signal.SIGABRT: 1, -signal.SIGTERM: 2}
"""Exit codes of a process that lost its peer, less likely to be the cause with a larger value.

A traceback, NCCL's abort and torchrun's SIGTERM.
"""


def main(parent: int, nproc: str, words: list[str]) -> int:
    """Run torchrun with ``words``; ``nproc`` is a number or ``auto``."""
    _exit_with_parent(parent)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    processes = max(gpus, 1) if nproc == "auto" else int(nproc)
    if gpus and processes > gpus:
        print_status(
            f"--nproc {processes} is more than this container's {gpus} GPU(s): remove --nproc to use all of them."
        )
        return USAGE_ERROR
    where = "one GPU each (nccl)" if gpus else "the CPU (gloo)"
    print_status(f"{processes} process(es) on {where}")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // processes)))
    wanted = parse_args([f"--nproc-per-node={processes}", *words])
    rendezvous.register()
    try:
        run_torchrun(wanted)
    except ChildFailedError as failed:
        return _report(failed.failures, Path(wanted.log_dir), wanted.rdzv_id)
    return 0


def _report(failures: dict[int, ProcessFailure], log_folder: Path, run_id: str) -> int:
    rank, first = min(
        failures.items(),
        key=lambda item: (SECONDARY_EXIT_CODES.get(item[1].exitcode, 0), item[1].timestamp),
    )
    code = exit_code_of(first.exitcode)
    if code == RESUME:
        print_status("stopped with a checkpoint; the same command continues from there.")
    else:
        logs = next(log_folder.glob(f"{run_id}_*/attempt_0/{first.local_rank}"), log_folder)
        if first.local_rank != 0:  # the terminal has the output of rank 0 already
            sys.stderr.write(read_last_lines(logs))
        print_status(f"rank {rank} ended with exit code {code}; its output is in {logs}")
    return code


def read_last_lines(logs: Path) -> str:
    """Return the last lines that a process wrote to its output, then those of its errors."""
    found: list[str] = []
    for name in ("stdout.log", "stderr.log"):
        try:
            with (logs / name).open("rb") as file:
                file.seek(max(0, (logs / name).stat().st_size - TAIL_BYTES))
                found += file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
        except OSError:
            continue
    return "".join(f"{line}\n" for line in found)


def _exit_with_parent(parent: int) -> None:
    """Request SIGTERM, which torchrun forwards, for the end of the supervisor ``parent``."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    # torchrun never flushes its output
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    exit_code = main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
    discard_unwritable_output()
    sys.exit(exit_code)
