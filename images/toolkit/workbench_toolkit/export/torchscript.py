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
    return model.eval()
