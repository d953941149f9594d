"""Agreement: gives all ranks the same boolean at the same step.

Each question starts one asynchronous all-reduce on the CPU, whose result the next question uses.
Therefore no question waits for the GPU or for another rank.
"""

from __future__ import annotations

import torch
import torch.distributed as dist


class Agreement:
    """A question that all ranks ask equally often; a true answer stays true."""

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | None = None
        self._count = torch.zeros(1, dtype=torch.int32)
        self._pending: dist.Work | None = None
        self._agreed = False

    def any_rank(self, mine: bool) -> bool:
        """Return whether ``mine`` was true on any rank; with several ranks, at the previous question."""
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
