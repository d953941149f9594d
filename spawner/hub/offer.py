"""What one user could ask for now, and when each number of GPUs would be theirs.

A count is foreseen by the line's own rule, as if the user stood at its end; nothing is claimed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from spawner.hub.workbench import Workbench
from spawner.model import Gpu, GpuHealth, Lease, LeaseState, Place, Quota, Unknown
from spawner.policy.line import plan_line

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
    """One GPU and the lease that holds it."""

    gpu: Gpu
    lease: Lease | None

    @property
    def is_free(self) -> bool:
        """True when nobody holds this GPU and it is well."""
        return self.lease is None and self.gpu.health is GpuHealth.OK


@dataclass(frozen=True)
class Offer:
    """What one user could ask for; ``error`` says why the GPUs are unknown.

    ``own`` are the GPUs that the user holds or waits for; ``places`` maps a number of GPUs to the place that it would
    get now.
    """

    gpus: tuple[GpuOffer, ...]
    own: int
    quota: Quota
    places: Mapping[int, Place]
    error: str | None = None


async def make_offer(workbench: Workbench, user: str, hours: float) -> Offer:
    """Return what ``user`` could ask for now, for ``hours``."""
    error: str | None = None
    gpus: tuple[Gpu, ...] = ()
    try:
        gpus = await workbench.gpus.inventory()
    except Unknown as unknown:
        error = str(unknown)
    return await asyncio.to_thread(_look, workbench, user, hours, gpus, error)


def _look(
    workbench: Workbench, user: str, hours: float, gpus: Sequence[Gpu], error: str | None
) -> Offer:
    now = workbench.clock()
    quota = workbench.settings.quota
    leases = workbench.ledger.live_leases()
    holders = {uuid: lease for lease in leases for uuid in lease.gpu_uuids}
    own = replace(_NOBODY, user=user, hours=hours, priority=quota.priority, requested_at=now)
    return Offer(
        gpus=tuple(
            GpuOffer(gpu, holders.get(gpu.uuid)) for gpu in sorted(gpus, key=lambda gpu: gpu.index)
        ),
        own=sum(lease.gpu_count for lease in leases if lease.user == user),
        quota=quota,
        places=foresee(own, leases, gpus, workbench.ledger.use(now=now), now),
        error=error,
    )


def foresee(
    own: Lease, leases: Sequence[Lease], gpus: Sequence[Gpu], use: Mapping[str, float], now: float
) -> dict[int, Place]:
    """Return the place that ``own`` would get with each number of GPUs from 1 to all of them."""
    waiting = [lease for lease in leases if lease.state is LeaseState.WAITING]
    holding = [lease for lease in leases if lease.gpu_uuids]
    places = {}
    for count in range(1, len(gpus) + 1):
        asking = replace(own, gpu_count=count)
        line = plan_line([*waiting, asking], leases=holding, gpus=gpus, use=use, now=now)
        places[count] = next(place for place in line if place.lease_id == own.id)
    return places
