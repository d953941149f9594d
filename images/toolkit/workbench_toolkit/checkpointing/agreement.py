"""Lets all ranks give the same answer at the same step.

One number is summed over the ranks per question, on the CPU and behind the step's own work; its result is
used at the next question, so that neither the GPU nor another rank is waited for.
"""

from __future__ import annotations

import torch
import torch.distributed as dist


class Agreement:
    """A question that all ranks ask equally often; once true, it stays true."""

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | None = None
        self._count = torch.zeros(1, dtype=torch.int32)
        self._pending: dist.Work | None = None
        self._agreed = False

    def any_rank(self, mine: bool) -> bool:
        """Return whether any rank said yes; with several ranks, at the question before this one."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return mine
        if self._agreed:
            return True
        if self._group is None:
            self._group = dist.new_group(
                backend="gloo"
            )  # the training's own may be NCCL, which needs the GPU
        if self._pending is not None:
            self._pending.wait()
            self._agreed = bool(self._count.item())
        if not self._agreed:
            self._count.fill_(int(mine))
            self._pending = dist.all_reduce(self._count, group=self._group, async_op=True)
        return self._agreed
