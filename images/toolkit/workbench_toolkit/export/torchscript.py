"""TorchScript files, loaded.

That PyTorch deprecates ``torch.jit`` is no news for whoever serves a file, so its warning is not passed on.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch


def load_torchscript(path: Path, device: torch.device) -> torch.jit.ScriptModule:
    """Return the model in ``path`` on ``device``, in eval mode; raises RuntimeError where it is none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.load` is deprecated")
        model: torch.jit.ScriptModule = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
    _move_constants(model.graph, device)
    return model.eval()


def _move_constants(graph: torch._C.Graph, device: torch.device) -> None:
    """Let ``graph``, which has not run yet, make its tensors on ``device``.

    A trace keeps the device it was made on as a constant, and ``map_location`` moves only tensors.
    """
    torch._C._jit_pass_inline(graph)  # whatever it calls is in this one graph then
    for node in graph.findAllNodes("prim::Constant"):  # type: ignore[attr-defined]
        if node.output().type().kind() == "DeviceObjType":
            node.s_("value", str(device))
