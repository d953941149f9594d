"""Mixed precision really needs less memory; measured on the GPU, both ways in one run."""

from __future__ import annotations

import torch
from torch import nn

LARGEST_SHARE = 0.75
"""Activations are half as large; weights, gradients and the optimizer's state stay float32."""


def train_step_peak_bytes(*, is_mixed: bool) -> int:
    """Return the most memory that one training step of a deep network of wide layers needs."""
    torch.manual_seed(0)
    layers = [layer for _ in range(16) for layer in (nn.Linear(512, 512), nn.GELU())]
    model = nn.Sequential(*layers).to("cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = torch.randn(16_384, 512, device="cuda")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    with torch.autocast("cuda", dtype=torch.float16, enabled=is_mixed):
        loss = model(batch).square().mean()
    loss.backward()
    optimizer.step()
    torch.cuda.synchronize()
    assert torch.isfinite(loss)
    peak: int = torch.cuda.max_memory_allocated()
    return peak


def test_mixed_precision_takes_less_memory() -> None:
    train_step_peak_bytes(is_mixed=True)  # whatever is kept from the first use on
    full, mixed = (train_step_peak_bytes(is_mixed=is_mixed) for is_mixed in (False, True))
    print(f"peak of a step: float32 {full / 2**20:.0f} MiB, mixed {mixed / 2**20:.0f} MiB")  # noqa: T201
    assert mixed < LARGEST_SHARE * full
