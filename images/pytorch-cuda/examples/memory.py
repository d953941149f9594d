"""Memory measurement of a training step with common ways to save memory: ``python memory.py MEANS``.

It prints the step's peak in bytes beyond the model and its optimizer: of PyTorch's allocator on a GPU, else of the
process. A process has one peak, so each measurement needs its own process.
"""

import contextlib
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

BATCH, LENGTH, WIDTH, BLOCKS = 16, 128, 256, 6
MEANS = (
    "nothing",
    "mixed precision",
    "gradient accumulation",
    "activation checkpointing",
    "all three",
)
MICRO_BATCHES = 4


class Stack(nn.Module):
    """Transformer blocks whose activations are kept for the backward pass or computed again."""

    def __init__(self, *, checkpoints: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True)
            for _ in range(BLOCKS)
        )
        self.checkpoints = checkpoints

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the same shape, (batch, length, width)."""
        for block in self.blocks:
            tokens = (
                checkpoint(block, tokens, use_reentrant=False)
                if self.checkpoints
                else block(tokens)
            )
        return tokens


def step(means: str, device: torch.device) -> int:
    """Run a step after a warm-up step, and return its peak in bytes."""
    has_all = means == "all three"
    model = Stack(checkpoints=has_all or means == "activation checkpointing").to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    parts = MICRO_BATCHES if has_all or means == "gradient accumulation" else 1
    is_mixed = has_all or means == "mixed precision"
    train(model, optimizer, torch.randn(1, LENGTH, WIDTH, device=device), 1, is_mixed=is_mixed)
    batch = torch.randn(BATCH, LENGTH, WIDTH, device=device)
    with peak(device) as found:
        train(model, optimizer, batch, parts, is_mixed=is_mixed)
    return found[0]


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: torch.Tensor,
    parts: int,
    *,
    is_mixed: bool,
) -> None:
    """Run one optimizer step over ``batch``, in ``parts`` with accumulated gradients."""
    for part in batch.chunk(parts):
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=is_mixed):
            loss = model(part).square().mean() / parts
        loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)


@contextlib.contextmanager
def peak(device: torch.device) -> Iterator[list[int]]:
    """Yield a list that afterwards has the increase of the peak in bytes."""
    found: list[int] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield found
        found.append(torch.cuda.max_memory_allocated(device) - before)
    else:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        yield found
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        found.append(peak_bytes - pages * resource.getpagesize())


if __name__ == "__main__":
    print(step(sys.argv[1], torch.device("cuda" if torch.cuda.is_available() else "cpu")))
