"""What one user could ask for now, and when each number of GPUs would be theirs.

A count is foreseen by the line's own rule, as if the user stood at its end; nothing is claimed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from spawner.hub.workbench import Workbench
from spawner.ledger.quotas import Entitlement, Owner
from spawner.model import (
    Drain,
    Gpu,
    GpuHealth,
    Lease,
    LeaseState,
    Place,
    Quarantine,
    Quota,
    Unknown,
)
from spawner.policy.admission import count_kinds
from spawner.policy.idle import IdleRules
from spawner.policy.queue import plan_line
from spawner.policy.quota import count_group, count_own, gpu_hours_left
from spawner.policy.formatting import count_gpus

_NOBODY = Lease(
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
class GpuOffer:
    """One GPU, the lease that holds it, and the quarantine and the drain that it is in."""

    gpu: Gpu
    lease: Lease | None
    quarantine: Quarantine | None = None
    drain: Drain | None = None

    @property
    def is_free(self) -> bool:
        """True when this GPU could be given to somebody now."""
        is_in_use = self.quarantine is None and self.drain is None
        return self.lease is None and is_in_use and self.gpu.health is GpuHealth.OK


@dataclass(frozen=True)
class Kind:
    """How many GPUs of one ``mig_profile`` (None: whole GPUs) there are, and how many are free now or drained."""

    mig_profile: str | None
    total: int
    free: int
    drained: int = 0

    def __str__(self) -> str:
        """Return ``"1 of 2 GPUs free"``."""
        return f"{self.free} of {count_gpus(self.total, self.mig_profile)} free"


def find_kinds(gpus: Collection[GpuOffer]) -> tuple[Kind, ...]:
    """Return the kinds of GPUs that ``gpus`` are of, whole ones first."""
    free = Counter(offer.gpu.mig_profile for offer in gpus if offer.is_free)
    drained = Counter(offer.gpu.mig_profile for offer in gpus if offer.drain is not None)
    kinds = count_kinds(offer.gpu for offer in gpus)
    return tuple(
        Kind(profile, total, free[profile], drained[profile]) for profile, total in kinds.items()
    )


@dataclass(frozen=True)
class Offer:
    """What one user could ask for; ``error`` says why the GPUs are unknown.

    ``own`` are the GPUs that the user holds or waits for, ``groups`` those of each of their groups that has a total;
    ``hours_left`` are the GPU-hours that they may ask for, None for any number. ``waits`` maps a ``mig_profile`` and a
    number to the place that it would get; what is not in it starts at once. ``idle`` is None where no server ends for
    doing nothing.
    """

    gpus: tuple[GpuOffer, ...]
    own: int
    quota: Quota
    waits: Mapping[tuple[str | None, int], Place]
    error: str | None = None
    idle: IdleRules | None = None
    groups: Mapping[str, int] = field(default_factory=dict)
    hours_left: float | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of GPUs there are."""
        return find_kinds(self.gpus)


async def make_offer(
    workbench: Workbench, owner: Owner, entitled: Entitlement, hours: float
) -> Offer:
    """Return what ``owner``, who is ``entitled`` to so much, could ask for now, for ``hours``."""
    error: str | None = None
    gpus: tuple[Gpu, ...] = ()
    try:
        gpus = await workbench.gpus.known()
    except Unknown as unknown:
        error = str(unknown)
    user, quota, now = owner.name, entitled.quota, workbench.clock()
    account = await asyncio.to_thread(workbench.ledger.find_account, owner.identity)
    uid = 0 if account is None else account.uid
    own = replace(
        _NOBODY, user=user, uid=uid, hours=hours, priority=quota.priority, requested_at=now
    )
    standing = await workbench.recent()
    waits = await asyncio.to_thread(
        foresee,
        own,
        standing.leases,
        gpus,
        {*standing.quarantines, *standing.drains},
        use=standing.use,
        now=now,
    )
    return Offer(
        gpus=offer_gpus(gpus, standing.leases, standing.quarantines, standing.drains),
        own=count_own(user, entitled.leases),
        quota=quota,
        waits=waits,
        error=error,
        idle=workbench.settings.idle if workbench.settings.idle_minutes else None,
        groups={cap.group: count_group(cap.group, entitled.leases) for cap in quota.caps},
        hours_left=gpu_hours_left(user, quota, entitled.leases, entitled.held, now),
    )


def offer_gpus(
    gpus: Iterable[Gpu],
    leases: Iterable[Lease],
    quarantines: Mapping[str, Quarantine],
    drains: Mapping[str, Drain],
) -> tuple[GpuOffer, ...]:
    """Return each of the ``gpus``, in order, with what is known of it; the mappings are by UUID."""
    holders = {uuid: lease for lease in leases for uuid in lease.gpu_uuids}
    return tuple(
        GpuOffer(gpu, holders.get(gpu.uuid), quarantines.get(gpu.uuid), drains.get(gpu.uuid))
        for gpu in sorted(gpus, key=lambda gpu: (gpu.index, gpu.mig_index or 0))
    )


def foresee(
    own: Lease,
    leases: Sequence[Lease],
    gpus: Sequence[Gpu],
    out: Container[str],
    *,
    use: Mapping[int, float],
    now: float,
) -> dict[tuple[str | None, int], Place]:
    """Return the place that ``own`` would get with each number of GPUs of each kind for which it would wait."""
    holding = [lease for lease in leases if lease.gpu_uuids]
    held = {uuid for lease in holding for uuid in lease.gpu_uuids}
    places = {}
    for kind, number in count_kinds(gpus).items():
        waiting = [
            lease
            for lease in leases
            if lease.state is LeaseState.WAITING and lease.mig_profile == kind
        ]
        usable = [gpu for gpu in gpus if gpu.mig_profile == kind and gpu.uuid not in out]
        free = sum(gpu.health is GpuHealth.OK and gpu.uuid not in held for gpu in usable)
        # where nobody waits, no plan is needed for what is free
        for count in range(1 if waiting else free + 1, number + 1):
            asking = replace(own, gpu_count=count, mig_profile=kind)
            plan = plan_line([*waiting, asking], leases=holding, gpus=usable, use=use, now=now)
            if own.id not in plan.grants:
                queue = plan.queues[kind]
                position = queue.index(own.id) + 1
                starts_at = plan.starts_at.get(own.id)
                places[kind, count] = Place(own.id, position, len(queue), starts_at)
    return places
