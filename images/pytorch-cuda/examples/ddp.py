"""Distributed training of SimpleNet: ``wb train -- ddp.py``, or ``wb train --nproc 2 -- ddp.py`` without a GPU.

After Ctrl-C or the end of a lease, the same command continues from the checkpoint.
"""

import os
from pathlib import Path

import torch
from simplenet import SimpleNet
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from torch.utils.tensorboard import SummaryWriter
from workbench_toolkit.checkpointing import Checkpointer
from workbench_toolkit.distributed import init_distributed

EPOCHS = 20
BATCH = 32
RUN = Path("runs/ddp")


def make_digits(count: int) -> TensorDataset:
    """Return synthetic digits: ten fixed patterns with noise."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(10, 784, generator=generator)
    labels = torch.arange(count) % 10
    noise = 8 * torch.randn(count, 784, generator=generator)
    return TensorDataset(patterns[labels] + noise, labels)


def main() -> None:
    """Train; each process reads its part of every epoch, and all have the same model."""
    context = init_distributed()  # NCCL with GPUs, gloo without
    torch.manual_seed(0)
    checkpointer = Checkpointer(RUN / "checkpoint.pt")
    digits = make_digits(2_000)
    sampler = DistributedSampler(digits, context.world_size, context.rank)
    loader = DataLoader(digits, BATCH, sampler=sampler)
    network = SimpleNet().to(context.device)
    model = DistributedDataParallel(network) if context.world_size > 1 else network
    optimizer = torch.optim.Adam(model.parameters())
    epoch = 0
    if saved := checkpointer.load():
        network.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        epoch = saved["epoch"]
        print(f"continuing with epoch {epoch}")
    board = SummaryWriter(os.environ.get("TENSORBOARD_LOGDIR", RUN)) if context.rank == 0 else None
    while epoch < EPOCHS:
        sampler.set_epoch(epoch)
        for images, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(
                model(images.to(context.device)), labels.to(context.device)
            )
            loss.backward()  # the processes exchange their gradients here
            optimizer.step()
        epoch += 1
        if board:
            board.add_scalar("loss", loss.item(), epoch)
            print(f"epoch {epoch}: loss {loss.item():.3f}")
        state = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
        if checkpointer.should_stop:
            checkpointer.stop(state)
        checkpointer.save(state)
    if board:
        board.close()


if __name__ == "__main__":
    main()
