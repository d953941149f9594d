"""Availability: builds what one user can request now, and the estimated start for each number of GPUs.

The estimate is the queue's own plan with one hypothetical request appended; no GPU is claimed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from spawner.hub.schema.gpus import KindJson
from spawner.hub.workbench import Workbench
from spawner.ledger.quotas import Entitlement, Owner
from spawner.model import (
    Drain,
    Gpu,
    GpuHealth,
    Lease,
    LeaseState,
    Quarantine,
    QueuePosition,
    Quota,
    Unknown,
)
from spawner.policy.admission import count_kinds
from spawner.policy.formatting import format_gpu_count
from spawner.policy.idle import IdleRules
from spawner.policy.queue import plan_queue
from spawner.policy.quota_check import count_group_gpus, count_user_gpus, gpu_hours_left

_HYPOTHETICAL = Lease(
    id="",
    epoch=0,
    user="",
    server="",
    uid=0,
    release="",
    gpu_count=0,
    hours=0.0,
    priority=0,
    gpu_uuids=(),
    state=LeaseState.WAITING,
    requested_at=0.0,
)


@dataclass(frozen=True)
class GpuAvailability:
    """One GPU with the lease that holds it, its open quarantine and its drain."""

    gpu: Gpu
    lease: Lease | None
    quarantine: Quarantine | None = None
    drain: Drain | None = None

    @property
    def is_free(self) -> bool:
        """True when the queue can grant this GPU now."""
        is_usable = self.quarantine is None and self.drain is None
        return self.lease is None and is_usable and self.gpu.health is GpuHealth.OK


@dataclass(frozen=True)
class GpuKind:
    """The GPUs of one ``mig_profile`` (None: whole GPUs): how many exist, are free, and are drained."""

    mig_profile: str | None
    total: int
    free: int
    drained: int = 0

    def as_json(self) -> KindJson:
        """Return the kind in the API's form."""
        return {
            "mig_profile": self.mig_profile,
            "total": self.total,
            "free": self.free,
            "drained": self.drained,
        }

    def __str__(self) -> str:
        """Return ``"1 of 2 GPUs free"``."""
        return f"{self.free} of {format_gpu_count(self.total, self.mig_profile)} free"


def summarize_kinds(gpus: Collection[GpuAvailability]) -> tuple[GpuKind, ...]:
    """Return one summary for each kind of GPU in ``gpus``, whole GPUs first."""
    free = Counter(offer.gpu.mig_profile for offer in gpus if offer.is_free)
    drained = Counter(offer.gpu.mig_profile for offer in gpus if offer.drain is not None)
    kinds = count_kinds(offer.gpu for offer in gpus)
    return tuple(
        GpuKind(profile, total, free[profile], drained[profile]) for profile, total in kinds.items()
    )


@dataclass(frozen=True)
class Availability:
    """GPUs that one user can request; ``error`` says why the GPUs are unknown.

    ``claimed`` counts the GPUs that the user holds or waits for, ``groups`` those of each group with a total.
    ``hours_left`` is the GPU-hours still allowed, None without a limit. ``positions`` maps a ``mig_profile`` and a
    number to the position in the queue that such a request would get; a pair that is absent starts at once.
    ``idle`` is None where idle servers are not stopped.
    """

    gpus: tuple[GpuAvailability, ...]
    claimed: int
    quota: Quota
    positions: Mapping[tuple[str | None, int], QueuePosition]
    error: str | None = None
    idle: IdleRules | None = None
    groups: Mapping[str, int] = field(default_factory=dict)
    hours_left: float | None = None

    @property
    def kinds(self) -> tuple[GpuKind, ...]:
        """One summary for each kind of GPU."""
        return summarize_kinds(self.gpus)


async def build_availability(
    workbench: Workbench, owner: Owner, entitled: Entitlement, hours: float
) -> Availability:
    """Return the availability for ``owner``, within the quota in ``entitled``, for leases of ``hours``."""
    error: str | None = None
    gpus: tuple[Gpu, ...] = ()
    try:
        gpus = await workbench.gpus.last_inventory()
    except Unknown as unknown:
        error = str(unknown)
    user, quota, now = owner.name, entitled.quota, workbench.clock()
    account = await asyncio.to_thread(workbench.ledger.account_by_identity, owner.identity)
    uid = 0 if account is None else account.uid
    request = replace(
        _HYPOTHETICAL, user=user, uid=uid, hours=hours, priority=quota.priority, requested_at=now
    )
    standing = await workbench.ledger_snapshot()
    positions = await asyncio.to_thread(
        estimate_positions,
        request,
        standing.leases,
        gpus,
        {*standing.quarantines, *standing.drains},
        use=standing.use,
        now=now,
    )
    return Availability(
        gpus=build_gpu_availability(gpus, standing.leases, standing.quarantines, standing.drains),
        claimed=count_user_gpus(user, entitled.leases),
        quota=quota,
        positions=positions,
        error=error,
        idle=workbench.settings.idle if workbench.settings.idle_minutes else None,
        groups={cap.group: count_group_gpus(cap.group, entitled.leases) for cap in quota.caps},
        hours_left=gpu_hours_left(user, quota, entitled.leases, entitled.held, now),
    )


def build_gpu_availability(
    gpus: Iterable[Gpu],
    leases: Iterable[Lease],
    quarantines: Mapping[str, Quarantine],
    drains: Mapping[str, Drain],
) -> tuple[GpuAvailability, ...]:
    """Return the ``gpus`` in display order, joined with leases, quarantines and drains by UUID."""
    holders = {uuid: lease for lease in leases for uuid in lease.gpu_uuids}
    return tuple(
        GpuAvailability(gpu, holders.get(gpu.uuid), quarantines.get(gpu.uuid), drains.get(gpu.uuid))
        for gpu in sorted(gpus, key=lambda gpu: (gpu.index, gpu.mig_index or 0))
    )


def estimate_positions(
    request: Lease,
    leases: Sequence[Lease],
    gpus: Sequence[Gpu],
    excluded: Container[str],
    *,
    use: Mapping[int, float],
    now: float,
) -> dict[tuple[str | None, int], QueuePosition]:
    """Return the queue position of ``request`` for each number of GPUs of each kind that would have to wait.

    The GPUs in ``excluded`` (UUIDs) are quarantined or drained.
    """
    holding = [lease for lease in leases if lease.gpu_uuids]
    held = {uuid for lease in holding for uuid in lease.gpu_uuids}
    positions = {}
    for kind, number in count_kinds(gpus).items():
        waiting = [
            lease
            for lease in leases
            if lease.state is LeaseState.WAITING and lease.mig_profile == kind
        ]
        usable = [gpu for gpu in gpus if gpu.mig_profile == kind and gpu.uuid not in excluded]
        free = sum(gpu.health is GpuHealth.OK and gpu.uuid not in held for gpu in usable)
        # without a queue a free GPU is granted at once: no plan is needed
        for count in range(1 if waiting else free + 1, number + 1):
            candidate = replace(request, gpu_count=count, mig_profile=kind)
            plan = plan_queue(
                [*waiting, candidate], leases=holding, gpus=usable, recent_gpu_hours=use, now=now
            )
            if request.id not in plan.grants:
                queue = plan.queues[kind]
                position = queue.index(request.id) + 1
                starts_at = plan.starts_at.get(request.id)
                positions[kind, count] = QueuePosition(request.id, position, len(queue), starts_at)
    return positions
