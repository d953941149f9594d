"""Training of SimpleNet on a pack: ``wb train -- pipeline.py``, or with ``--nproc 2`` without a GPU.

It starts from the first weights of pipeline.ipynb. After a stop, the same command continues from the checkpoint.
"""

import os
from pathlib import Path

import torch
from packing import open_images
from simplenet import SimpleNet
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from torch.utils.tensorboard import SummaryWriter
from workbench_toolkit.checkpointing import Checkpointer
from workbench_toolkit.distributed import init_distributed

EPOCHS = 10
BATCH = 32
FIRST_WEIGHTS = Path("pipeline-first.pt")
RUN = Path("runs/pipeline")


def main() -> None:
    """Train; each process reads its part of the pack, and all have the same model."""
    context = init_distributed()  # NCCL with GPUs, gloo without
    checkpointer = Checkpointer(RUN / "checkpoint.pt")
    network = SimpleNet().to(context.device)
    optimizer = torch.optim.Adam(network.parameters())
    epoch = 0
    if saved := checkpointer.load():
        network.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        epoch = saved["epoch"]
    elif FIRST_WEIGHTS.exists():
        network.load_state_dict(torch.load(FIRST_WEIGHTS, map_location=context.device))
    model = DistributedDataParallel(network) if context.world_size > 1 else network
    files = open_images()
    sampler = DistributedSampler(files, context.world_size, context.rank)
    loader = DataLoader(files, BATCH, sampler=sampler)
    board = SummaryWriter(os.environ.get("TENSORBOARD_LOGDIR", RUN)) if context.rank == 0 else None
    while epoch < EPOCHS:
        sampler.set_epoch(epoch)
        for images, digits in loader:
            optimizer.zero_grad()
            scores = model(images.to(context.device))
            loss = nn.functional.cross_entropy(scores, digits.to(context.device))
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
