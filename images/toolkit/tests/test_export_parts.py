"""Export parts: exact differences, and TorchScript on a chosen device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from workbench_toolkit.export.compare import differences
from workbench_toolkit.export.torchscript import load_torchscript


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        (np.array([2**53]), np.array([2**53 + 1]), 1),
        (np.array([-(2**63), 0]), np.array([2**63 - 1, 0]), 2.0**64),
        (np.array([-3, 5], "int8"), np.array([-1, 5], "int8"), 2),
        (np.array([0], "uint8"), np.array([255], "uint8"), 255),
        (np.array([True, False]), np.array([True, True]), 1),
        (np.array([True, False]), np.array([True, False]), 0),
        (np.zeros((0, 2), "int64"), np.zeros((0, 2), "int64"), 0),
        (np.array([1]), np.array([1], "int32"), np.inf),
        (np.array([0.5, np.nan]), np.array([0.25, np.nan]), 0.25),
        (np.array([np.nan]), np.array([0.0]), np.inf),
    ],
    ids=str,
)
def test_the_difference_is_the_largest_one_and_exact_for_whole_numbers(
    before: np.ndarray, after: np.ndarray, difference: float
) -> None:
    assert differences([before], [after]) == [difference]
    assert differences([after], [before]) == [difference]


@torch.jit.script
def count(rows: int, features: torch.Tensor) -> torch.Tensor:
    if rows > 1:
        return torch.arange(rows, device="cpu")
    return torch.arange(rows, device=features.device)


class Positions(torch.nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.arange(features.shape[0], device=features.device)


class Scripted(torch.nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return count(features.shape[0], features)


class Devices(torch.nn.Module):
    """Creates a tensor in forward, in a submodule, and in a function's branch."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = Positions()
        self.scripted = torch.jit.script(Scripted())

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        own = torch.zeros(features.shape, device=features.device) + torch.tensor([1.0, 2.0])
        return own, self.positions(features), self.scripted(features)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # the constant is intended
def test_what_a_traced_model_makes_is_on_the_device_it_was_loaded_on(tmp_path: Path) -> None:
    traced = torch.jit.trace(Devices(), torch.ones(3, 2), check_trace=False)
    torch.jit.save(traced, tmp_path / "model.pt")

    model = load_torchscript(tmp_path / "model.pt", torch.device("meta"))

    for _ in range(3):  # TorchScript optimises after its first runs
        made = model(torch.ones(4, 2, device="meta"))
        assert [tensor.device.type for tensor in made] == ["meta"] * 3
