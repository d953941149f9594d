"""Joins a training script's process to the others, and says which device is its own.

The same script runs alone, under ``wb train`` and under torchrun, with GPUs and without.
"""

from __future__ import annotations

import atexit
import os
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist

SETTLE_SECONDS = 0.2


@dataclass(frozen=True)
class Place:
    """Which of ``world_size`` processes this one is, and its device."""

    rank: int
    world_size: int
    device: torch.device


def join() -> Place:
    """Meet the other processes, with NCCL on GPUs and gloo without; alone, only choose the device."""
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    if "WORLD_SIZE" not in os.environ:
        return Place(0, 1, device)
    dist.init_process_group("nccl" if has_gpu else "gloo")
    if not has_gpu:
        # gloo's threads abort a process that ends before them; NCCL would wait for ranks that are stuck
        atexit.register(leave)
    return Place(dist.get_rank(), dist.get_world_size(), device)


def leave() -> None:
    """Leave the other processes, where this one has met them."""
    if dist.is_initialized():
        # a thread of gloo may still have to free what Python made, for which it needs the interpreter: it would wait
        # for this thread, and this one for it
        time.sleep(SETTLE_SECONDS)
        dist.destroy_process_group()
