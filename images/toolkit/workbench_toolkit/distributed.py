"""Process group: connects a training script's process to the other ranks and chooses its device.

The same script runs alone, under ``wb train`` and under torchrun, with GPUs and without.
"""

from __future__ import annotations

import atexit
import os
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist

DRAIN_SECONDS = 0.2


@dataclass(frozen=True)
class ProcessContext:
    """This process among ``world_size`` processes: its rank and its device."""

    rank: int
    world_size: int
    device: torch.device


def init_distributed() -> ProcessContext:
    """Initialize the process group, NCCL on GPUs and gloo without; a single process only chooses its device."""
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    if "WORLD_SIZE" not in os.environ:
        return ProcessContext(0, 1, device)
    dist.init_process_group("nccl" if has_gpu else "gloo")
    if not has_gpu:
        # gloo's threads abort a process that ends before them; NCCL's shutdown could wait for a stuck rank
        atexit.register(shut_down_distributed)
    return ProcessContext(dist.get_rank(), dist.get_world_size(), device)


def shut_down_distributed() -> None:
    """Destroy the process group, if there is one."""
    if dist.is_initialized():
        # A gloo thread that still frees Python objects needs the interpreter lock.
        # Without this pause it can wait for this thread while this thread waits for it.
        time.sleep(DRAIN_SECONDS)
        dist.destroy_process_group()
