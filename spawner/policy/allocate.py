"""Which GPUs a request gets, or why it gets none.

Deterministic: the free, healthy GPUs of lowest index. The waiting room will take the place of ``NO_FREE_GPU``.
"""

from __future__ import annotations

from collections.abc import Sequence

from spawner.model import Gpu, GpuHealth, Lease, Quota, Reason, Refused, Request
from spawner.policy.quota import check_quota
from spawner.policy.words import count_gpus, say_duration


def allocate(
    request: Request, *, gpus: Sequence[Gpu], leases: Sequence[Lease], quota: Quota, now: float
) -> tuple[str, ...] | Refused:
    """Return the UUIDs that ``request`` gets beside the live ``leases``, or a refusal.

    ``now`` is seconds since the Unix epoch. No GPU asked for gives the empty tuple.
    """
    asked = request.options.gpus
    if any((lease.user, lease.server) == (request.user, request.server) for lease in leases):
        return Refused(
            Reason.ALREADY_HELD,
            "Your previous server is still being removed: try again in a minute.",
        )
    refusal = check_quota(request, quota, leases)
    if refusal is not None:
        return refusal
    if asked > len(gpus):
        return Refused(
            Reason.NOT_ENOUGH_GPUS,
            f"You asked for {count_gpus(asked)}, but this workbench has {len(gpus)}: ask for fewer.",
        )
    holders = {uuid: lease for lease in leases for uuid in lease.gpu_uuids}
    free = [
        gpu
        for gpu in sorted(gpus, key=lambda gpu: gpu.index)
        if gpu.uuid not in holders and gpu.health is GpuHealth.OK
    ]
    if asked > len(free):
        held = "; ".join(
            _say_taken(gpu, holders.get(gpu.uuid), now) for gpu in gpus if gpu not in free
        )
        free_now = "none is free" if not free else f"only {len(free)} is free"
        return Refused(
            Reason.NO_FREE_GPU,
            f"You asked for {count_gpus(asked)}, but {free_now} now ({held}): start with "
            f"{len(free)} GPUs, or come back when one of them is given back.",
        )
    return tuple(gpu.uuid for gpu in free[:asked])


def _say_taken(gpu: Gpu, lease: Lease | None, now: float) -> str:
    if lease is None:
        return f"GPU {gpu.index} does not answer"
    if lease.ended_at is not None:
        return f"GPU {gpu.index} is being given back by {lease.user}"
    return f"GPU {gpu.index} is held by {lease.user} for {say_duration(now - lease.granted_at)}"
