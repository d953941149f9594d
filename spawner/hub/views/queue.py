"""The line as one viewer may see it: who holds the GPUs until when, and who waits for how many.

Names are shown as far as the settings allow; admins see all, and everybody sees themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from spawner.controller.queue import QueueEntry
from spawner.hub.views.timestamps import Timestamp
from spawner.hub.views.availability import GpuKind, summarize_kinds, build_gpu_availability
from spawner.hub.workbench import Workbench
from spawner.model import Gpu, Lease, QueuePosition, Unknown
from spawner.policy.formatting import format_gpu_count, format_hours

MAX_AHEAD_SHOWN = 10
"""How many of those ahead, the nearest first, somebody who waits is told of one by one."""


@dataclass(frozen=True)
class Viewer:
    """Who looks; ``sees_names`` is what the settings, or being an admin, allow."""

    name: str
    sees_names: bool

    def call(self, user: str) -> str:
        """Return ``user`` as this viewer may read them."""
        if user == self.name:
            return "you"
        return user if self.sees_names else "somebody"


@dataclass(frozen=True)
class Holder:
    """A server that has GPUs with the lease ``lease``; ``until`` None when its time is not bounded."""

    lease: str
    who: str
    gpus: int
    mig_profile: str | None
    until: Timestamp | None
    is_closing: bool

    @property
    def holds(self) -> str:
        """Return what it has, in words."""
        return format_gpu_count(self.gpus, self.mig_profile)

    def as_json(self) -> dict[str, Any]:
        """Return what the API says of it."""
        return {
            "lease": self.lease,
            "user": self.who,
            "gpus": self.gpus,
            "mig_profile": self.mig_profile,
            "ends_at": self.until and self.until.iso,
            "is_closing": self.is_closing,
        }


@dataclass(frozen=True)
class Waiter:
    """A server in line with the lease ``lease``.

    ``position`` is from 1 among those who want the same kind, ``about`` None when nobody knows.
    """

    lease: str
    position: int
    who: str
    gpus: int
    mig_profile: str | None
    hours: float
    since: Timestamp
    about: Timestamp | None

    @property
    def wants(self) -> str:
        """Return what it asks for and for how long, in words."""
        return f"{format_gpu_count(self.gpus, self.mig_profile)} for {format_hours(self.hours)}"

    def as_json(self) -> dict[str, Any]:
        """Return what the API says of it."""
        return {
            "lease": self.lease,
            "position": self.position,
            "user": self.who,
            "gpus": self.gpus,
            "mig_profile": self.mig_profile,
            "hours": self.hours,
            "requested_at": self.since.iso,
            "starts_at": self.about and self.about.iso,
        }


@dataclass(frozen=True)
class QueueView:
    """Everyone who holds or waits for GPUs; ``error`` says why the GPUs are unknown.

    ``out`` is how many GPUs are quarantined, ``drained`` how many are drained; ``now`` is seconds since the Unix
    epoch, by the wall clock.
    """

    holders: tuple[Holder, ...]
    waiters: tuple[Waiter, ...]
    kinds: tuple[GpuKind, ...]
    out: int
    drained: int
    error: str | None
    now: float

    def as_json(self) -> dict[str, Any]:
        """Return what the API says; where the GPUs are unknown, they are null."""
        return {
            "gpus": [asdict(kind) for kind in self.kinds] if self.error is None else None,
            "holders": [holder.as_json() for holder in self.holders],
            "waiting": [waiter.as_json() for waiter in self.waiters],
        }


async def build_queue_view(workbench: Workbench, viewer: Viewer) -> QueueView:
    """Return the line now, as ``viewer`` may see it."""
    standing = await asyncio.to_thread(workbench.ledger.snapshot, now=workbench.clock())
    error: str | None = None
    gpus: tuple[Gpu, ...] = ()
    try:
        gpus = await workbench.gpus.last_inventory()
    except Unknown as unknown:
        error = str(unknown)
    line = sorted(
        workbench.controller.queue(),
        key=lambda entry: (entry.lease.mig_profile or "", entry.place.position),
    )
    offers = build_gpu_availability(gpus, standing.leases, standing.quarantines, standing.drains)
    return QueueView(
        holders=tuple(_holders(workbench, viewer, standing.leases)),
        waiters=tuple(_waiter(workbench, viewer, entry) for entry in line),
        kinds=summarize_kinds(offers),
        out=sum(offer.quarantine is not None for offer in offers),
        drained=sum(offer.drain is not None for offer in offers),
        error=error,
        now=time.time(),
    )


def format_position(workbench: Workbench, lease: Lease, place: QueuePosition) -> str:
    """Return ``Waiting for 2 GPUs: place 3 of 5, about 14:30 UTC``."""
    about = _timestamp(workbench, place.starts_at)
    when = "no estimate yet" if about is None else f"about {about.say(time.time())}"
    return (
        f"Waiting for {format_gpu_count(lease.gpu_count, lease.mig_profile)}: "
        f"place {place.position} of {place.queue_length}, {when}"
    )


async def build_wait_view(workbench: Workbench, viewer: Viewer, place: QueuePosition) -> dict[str, Any]:
    """Return what somebody at ``place`` is told: where they stand, who is ahead, who holds the GPUs until when."""
    queue = workbench.controller.queue_of(place.lease_id)
    place = workbench.controller.position_of(place.lease_id) or place
    own = queue[place.position - 1].lease if queue else None
    kind = None if own is None else own.mig_profile
    ahead = place.position - 1 if queue else 0
    nearest = queue[max(ahead - MAX_AHEAD_SHOWN, 0) : ahead]
    leases = [one for one in (await workbench.recent()).holding if one.mig_profile == kind]
    starts_at = _timestamp(workbench, place.starts_at)
    return {
        "gpus": None if own is None else own.gpu_count,
        "mig_profile": kind,
        "position": place.position,
        "queue_length": place.queue_length,
        "starts_at": starts_at and starts_at.iso,
        "ahead": [_waiter(workbench, viewer, entry).as_json() for entry in nearest],
        "not_shown": ahead - len(nearest),
        "holders": [holder.as_json() for holder in _holders(workbench, viewer, leases)],
    }


def _holders(workbench: Workbench, viewer: Viewer, leases: Iterable[Lease]) -> list[Holder]:
    holding = sorted(
        (lease for lease in leases if lease.gpu_uuids),
        key=lambda lease: (lease.ends_at or float("inf"), lease.id),
    )
    return [
        Holder(
            lease.id,
            viewer.call(lease.user),
            lease.gpu_count,
            lease.mig_profile,
            _timestamp(workbench, lease.ends_at),
            lease.ended_at is not None,
        )
        for lease in holding
    ]


def _waiter(workbench: Workbench, viewer: Viewer, entry: QueueEntry) -> Waiter:
    lease, place = entry.lease, entry.place
    return Waiter(
        lease=lease.id,
        position=place.position,
        who=viewer.call(lease.user),
        gpus=lease.gpu_count,
        mig_profile=lease.mig_profile,
        hours=lease.hours,
        since=Timestamp(workbench.clock.to_wall(lease.requested_at)),
        about=_timestamp(workbench, place.starts_at),
    )


def _timestamp(workbench: Workbench, at: float | None) -> Timestamp | None:
    return None if at is None else Timestamp(workbench.clock.to_wall(at))
