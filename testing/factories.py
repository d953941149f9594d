"""Factories: model values in which only the fields that a test names are chosen."""

from typing import Any

from spawner.catalog import Release
from spawner.model import Account, Gpu, GpuHealth, Lease, LeaseState, Options, Request

GPU_0 = "GPU-51a0c0de-0000-4000-8000-000000000000"
GPU_1 = "GPU-51a0c0de-0000-4000-8000-000000000001"


def make_gpu(index: int, health: GpuHealth = GpuHealth.OK) -> Gpu:
    """Return the GPU of one index, as ``GPU_0`` and ``GPU_1`` name the first two."""
    uuid = f"GPU-51a0c0de-0000-4000-8000-{index:012d}"
    return Gpu(uuid, index, "NVIDIA A100-SXM4-80GB (simulated)", 80 * 1024**3, health)


def make_release(**changes: Any) -> Release:
    """Return the first release of the catalog."""
    values: dict[str, Any] = {
        "name": "v2.7",
        "image": "pytorch-cuda:v2.7",
        "title": "PyTorch 2.7",
        "torch": "2.7.1",
        "cuda": "12.6",
        "python": "3.11",
        "cudnn": "9.5.1",
        "nccl": "2.26.2",
        "packages_before": "2025-12-01",
        "driver": "525.60.13",
        "architectures": ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"),
        "constraints": ("torchaudio==2.7.1",),
        "without": (),
    }
    return Release(**{**values, **changes})


def make_account(lease: Lease) -> Account:
    """Return the account of the user who holds ``lease``."""
    return Account(lease.uid, lease.user, is_home_prepared=True)


def make_lease(**changes: Any) -> Lease:
    """Return a granted lease of Alice's without GPUs."""
    values: dict[str, Any] = {
        "id": "0123456789abcdef",
        "epoch": 1,
        "user": "alice",
        "server": "",
        "uid": 20001,
        "release": "v2.7",
        "gpu_count": len(changes.get("gpu_uuids", ())),
        "hours": 24.0,
        "priority": 0,
        "gpu_uuids": (),
        "state": LeaseState.GRANTED,
        "requested_at": 1000.0,
        "granted_at": 1000.0,
    }
    return Lease(**{**values, **changes})


def make_request(user: str = "alice", gpus: int = 1, server: str = "") -> Request:
    """Return a request for GPUs of the first release."""
    return Request(user, server, Options("v2.7", gpus), user)
