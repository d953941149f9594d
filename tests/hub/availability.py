"""Availability: hosts as the spawn form sees them, built without a hub."""

from dataclasses import replace
from typing import Any

from spawner.hub.views.availability import Availability, GpuAvailability, estimate_positions
from spawner.hub.views.queue import Viewer
from spawner.model import Gpu, GpuHealth, Lease, LeaseState, Quarantine, Quota
from testing.factories import make_release

NAME = "NVIDIA A100-SXM4-80GB"
NOW = 10_000.0
RELEASES = {
    "v2.7": make_release(),
    "v2.9": make_release(
        name="v2.9",
        title="PyTorch 2.9",
        cuda="13.0",
        driver="580",
        architectures=("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"),
    ),
}
ME = Viewer("me", sees_names=True)
PROFILE = "1g.10gb"


def lease(
    user: str, *uuids: str, wants: int = 0, ends_in: float = 3600.0, profile: str | None = None
) -> Lease:
    state = LeaseState.RUNNING if uuids else LeaseState.WAITING
    return Lease(
        id=f"{user}{uuids}",
        epoch=1,
        user=user,
        server="",
        uid=1,
        release="v2.7",
        gpu_count=len(uuids) or wants,
        hours=1.0,
        priority=0,
        gpu_uuids=uuids,
        state=state,
        requested_at=NOW - 60,
        granted_at=NOW if uuids else None,
        ends_at=NOW + ends_in if uuids else None,
        mig_profile=profile,
    )


def gpu(
    index: int, holder: str | None = None, *, reason: str | None = None, **changes: Any
) -> GpuAvailability:
    """Return a GPU, or MIG instance, that ``holder`` holds and that is quarantined for ``reason``."""
    values = {"name": NAME, "memory_total_bytes": 80 * 1024**3, "health": GpuHealth.OK, **changes}
    uuid = f"GPU-{index}-{values.get('mig_index')}"
    held = lease(holder, uuid, profile=values.get("mig_profile")) if holder else None
    quarantine = Quarantine(uuid, reason, NOW - 60) if reason else None
    return GpuAvailability(Gpu(uuid, index, **values), held, quarantine)


def part(index: int, mig_index: int, holder: str | None = None, **changes: Any) -> GpuAvailability:
    values = {"memory_total_bytes": 10 * 1024**3, "mig_profile": PROFILE, "mig_index": mig_index}
    return gpu(index, holder, **{**values, **changes})


def offer(
    *gpus: GpuAvailability,
    own: int = 0,
    most: int | None = None,
    error: str | None = None,
    line: int = 0,
) -> Availability:
    """Return the availability while ``line`` users wait for all whole GPUs."""
    holding = [gpu.lease for gpu in gpus if gpu.lease]
    whole = sum(gpu.gpu.mig_profile is None for gpu in gpus)
    waiting = [lease(f"w{i}", wants=whole) for i in range(line)]
    mine = replace(lease("me", wants=1), id="", requested_at=NOW)
    quarantined = {gpu.gpu.uuid for gpu in gpus if gpu.quarantine}
    everyone, host = [*holding, *waiting], [gpu.gpu for gpu in gpus]
    waits = estimate_positions(mine, everyone, host, quarantined, use={}, now=NOW)
    return Availability(gpus, own, Quota(most), waits, error)
