"""Training script of the tests: two ranks, dropout, DataLoader workers, and a record of every step.

Arguments: the output folder and the number of steps. Each rank appends its steps to a file.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from workbench_toolkit.checkpointing import Checkpointer
from workbench_toolkit.distributed import init_distributed

BATCH = 4


class Numbers(Dataset[torch.Tensor]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        time.sleep(0.005)
        return torch.randn(8, generator=torch.Generator().manual_seed(index))


def main(folder: Path, steps: int) -> None:
    context = init_distributed()
    torch.manual_seed(context.rank)
    checkpointer = Checkpointer(folder / "checkpoint.pt")
    model: nn.Module = nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.5), nn.Linear(32, 1))
    if context.world_size > 1:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters())
    step = 0
    if saved := checkpointer.load():
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    numbers = Numbers(steps * BATCH * context.world_size)
    order = list(
        DistributedSampler(numbers, context.world_size, context.rank, shuffle=True, seed=1)
    )
    rest = order[step * BATCH :]
    loader = DataLoader(
        numbers, BATCH, sampler=rest, num_workers=2, generator=torch.Generator().manual_seed(0)
    )
    with (folder / f"steps.{context.rank}").open("a", buffering=1) as note:
        for numbers_of_step in loader:
            optimizer.zero_grad()
            model(numbers_of_step).square().mean().backward()
            optimizer.step()
            step += 1
            note.write(f"{step}\n")
            if checkpointer.should_stop:
                checkpointer.stop(
                    {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
                )
    if context.rank == 0:
        torch.save(model.state_dict(), folder / "final.pt")
    if context.world_size > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
