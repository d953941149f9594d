"""The catalog's statements on each release are true inside its image."""

from __future__ import annotations

import json

from spawner.catalog import Release
from tests.images.conftest import run

TRUTH = """
import ctypes, json, torch
nccl = ctypes.c_int()
ctypes.CDLL("libnccl.so.2").ncclGetVersion(ctypes.byref(nccl))
print(json.dumps([torch._C._cuda_getArchFlags().split(), torch.backends.cudnn.version(), nccl.value]))
"""


def number(version: str) -> int:
    """Return a version in the format of cuDNN and NCCL."""
    major, minor, patch = map(int, version.split("."))
    return major * 10_000 + minor * 100 + patch


def test_its_libraries_and_architectures_are_as_stated(release: Release) -> None:
    architectures, cudnn, nccl = json.loads(run(release.image, "python", "-c", TRUTH))
    assert tuple(architectures) == release.architectures
    assert (cudnn, nccl) == (number(release.cudnn), number(release.nccl))
