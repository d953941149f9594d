"""TorchScript loader: loads a TorchScript file onto a device.

PyTorch's warning about the deprecation of ``torch.jit`` is suppressed: it does not concern a served file.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch


def load_torchscript(path: Path, device: torch.device) -> torch.jit.ScriptModule:
    """Return the model in ``path`` on ``device``, in eval mode; raises RuntimeError for another file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.load` is deprecated")
        model: torch.jit.ScriptModule = torch.jit.load(path, map_location=device)
    _move_constants(model.graph, device)
    return model.eval()


def _move_constants(graph: torch._C.Graph, device: torch.device) -> None:
    """Make ``graph``, before its first run, create its tensors on ``device``.

    A trace keeps the device of its origin as a constant, and ``map_location`` moves only tensors.
    """
    torch._C._jit_pass_inline(graph)  # called functions become part of this graph
    for node in graph.findAllNodes("prim::Constant"):
        if node.output().type().kind() == "DeviceObjType":
            node.s_("value", str(device))
