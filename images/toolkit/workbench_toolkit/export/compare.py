"""Comparison: runs an exported model and the eager one on the same inputs, and measures the largest difference.

It loads the written file, not the object in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from workbench_toolkit.errors import ToolError
from workbench_toolkit.export.inputs import Array
from workbench_toolkit.export.torchscript import load_torchscript

Run = Callable[[Sequence[Array]], list[Array]]
"""Inputs in order to outputs in order."""


def copy_to_tensors(arrays: Iterable[Array]) -> list[torch.Tensor]:
    """Return copies of ``arrays`` as tensors: a forward may write into its inputs."""
    return [torch.tensor(array) for array in arrays]


def run_eager(model: torch.nn.Module) -> Run:
    """Return a function that runs the eager ``model``, which returns a tuple."""

    def run(arrays: Sequence[Array]) -> list[Array]:
        with torch.no_grad():
            return [output.numpy() for output in model(*copy_to_tensors(arrays))]

    return run


def run_torchscript(path: Path) -> Run:
    """Return a function that runs the TorchScript file ``path``."""
    return run_eager(load_torchscript(path, torch.device("cpu")))


def run_onnx(path: Path, names: Sequence[str]) -> Run:
    """Return a function that runs the ONNX file ``path`` with inputs named ``names``."""
    try:
        import onnxruntime
    except ImportError:
        raise ToolError("onnxruntime is not in this image: use the flavor train or lab.") from None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(arrays: Sequence[Array]) -> list[Array]:
        return list(session.run(None, dict(zip(names, arrays, strict=True))))

    return run


def differences(expected: Sequence[Array], found: Sequence[Array]) -> list[float]:
    """Return the largest absolute difference per output; infinite for different shapes, NaNs or infinities."""
    return [_difference(*pair) for pair in zip(expected, found, strict=True)]


def _difference(expected: Array, found: Array) -> float:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return float("inf")
    if expected.dtype.kind in "iub":  # float64 is not exact above 2**53
        high, low = np.maximum(expected, found), np.minimum(expected, found)
        return float((high.astype("uint64") - low.astype("uint64")).max(initial=0))
    before, after = expected.astype("float64"), found.astype("float64")
    finite = np.isfinite(before)
    if not np.array_equal(before[~finite], after[~finite], equal_nan=True):
        return float("inf")
    gap = np.abs(before[finite] - after[finite])
    return float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0))


def is_row_independent(run: Run, arrays: Sequence[Array], tolerance: float) -> bool:
    """Return whether the first rows have the same outputs alone and together with all rows."""
    together = run(arrays)
    for row in range(min(4, arrays[0].shape[0])):
        alone = run([array[row : row + 1] for array in arrays])
        if max(differences([output[row : row + 1] for output in together], alone)) > tolerance:
            return False
    return True
