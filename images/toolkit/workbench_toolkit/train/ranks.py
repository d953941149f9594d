"""Joins a training script's process to the others, and says which device is its own.

The same script runs alone, under ``wb train`` and under torchrun, with GPUs and without.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist


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
    return Place(dist.get_rank(), dist.get_world_size(), device)
