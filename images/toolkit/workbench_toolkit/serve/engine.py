"""Engine: loads an exported model into this process, TorchScript with PyTorch and ONNX with onnxruntime.

It runs on a GPU that the runtime really uses, else on the CPU, and describes its device.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from workbench_toolkit.cores import usable_cores
from workbench_toolkit.errors import ToolError
from workbench_toolkit.export.contract import Contract
from workbench_toolkit.export.inputs import Array

Run = Callable[[Sequence[Array]], list[Array]]
"""Inputs in order to outputs in order."""


class Engine:
    """A loaded model; ``device`` is the description of its device."""

    def __init__(self, contract: Contract, kind: str, path: Path) -> None:
        """Load ``path`` and predict once; raises ToolError."""
        self._contract = contract
        try:
            self.device, self._run = (_torchscript if kind == "torchscript" else _onnx)(
                contract, path
            )
            for _ in range(2):  # TorchScript optimises on its second run
                self.predict(
                    [np.zeros((1, *spec.shape[1:]), spec.dtype) for spec in contract.inputs]
                )
        except (RuntimeError, ValueError, ImportError) as error:
            raise ToolError(f"{path} cannot be served: {first_line(error)}") from error

    def predict(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the outputs for ``arrays``, both in model.json's order and with one row per row."""
        outputs = self._run(arrays)
        rows = len(arrays[0])
        expected = [(rows, *spec.shape[1:]) for spec in self._contract.outputs]
        if [output.shape for output in outputs] != expected:
            raise ValueError(
                f"it returned {[output.shape for output in outputs]}, model.json has {expected}"
            )
        return outputs


def first_line(error: BaseException) -> str:
    """Return the last line of ``error``: PyTorch's own message is below a trace of TorchScript."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]


def _torchscript(_: Contract, path: Path) -> tuple[str, Run]:
    import torch

    from workbench_toolkit.export.torchscript import load_torchscript

    torch.set_num_threads(_threads())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_torchscript(path, device)

    def run(arrays: Sequence[Array]) -> list[Array]:
        with torch.inference_mode():
            outputs = model(*(torch.from_numpy(array).to(device) for array in arrays))
            return [output.cpu().numpy() for output in outputs]

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"PyTorch {torch.__version__} on {name}", run


def _onnx(contract: Contract, path: Path) -> tuple[str, Run]:
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and _has_gpu():
        onnxruntime.preload_dlls()
        providers.insert(0, "CUDAExecutionProvider")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    names = [spec.name for spec in contract.inputs]
    outputs = [spec.name for spec in contract.outputs]

    def run(arrays: Sequence[Array]) -> list[Array]:
        return list(session.run(outputs, dict(zip(names, arrays, strict=True))))

    used = session.get_providers()[0]
    lost = " (a GPU is there, but its provider did not load)" if used != providers[0] else ""
    return f"onnxruntime {onnxruntime.__version__} with {used}{lost}", run


def _threads() -> int:
    # By default both runtimes start one thread per core of the host, too many for the container's CPU quota.
    return int(os.environ.get("OMP_NUM_THREADS") or usable_cores())


def _has_gpu() -> bool:
    try:
        return bool(ctypes.CDLL("libcuda.so.1").cuInit(0) == 0)
    except OSError:
        return False
