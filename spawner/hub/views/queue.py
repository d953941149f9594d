"""Queue view: builds the list of holders and waiting requests for one viewer.

The settings decide whether names are shown; an admin sees every name, and each user is "you" to themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

from spawner.controller.queue import QueueEntry
from spawner.hub.schema.leases import HolderJson, QueueJson, WaiterJson, WaitJson
from spawner.hub.views.availability import GpuKind, build_gpu_availability, summarize_kinds
from spawner.hub.views.timestamps import Timestamp
from spawner.hub.workbench import Workbench
from spawner.model import Gpu, Lease, QueuePosition, Unknown
from spawner.policy.formatting import format_gpu_count, format_hours

MAX_AHEAD_SHOWN = 10
"""Requests directly ahead in the queue that the wait view lists one by one."""
HIDDEN_NAME = "another user"
"""Shown in place of a name that the viewer may not see."""


@dataclass(frozen=True)
class Viewer:
    """The user for whom a view is built; ``sees_names`` is True by the settings or for an admin."""

    name: str
    sees_names: bool

    def display_name(self, user: str) -> str:
        """Return the name of ``user`` as this viewer may see it."""
        if user == self.name:
            return "you"
        return user if self.sees_names else HIDDEN_NAME


@dataclass(frozen=True)
class Holder:
    """A lease that holds GPUs; ``until`` is None without a time limit."""

    lease: str
    who: str
    gpus: int
    mig_profile: str | None
    until: Timestamp | None
    is_closing: bool

    @property
    def holds(self) -> str:
        """The held GPUs as text."""
        return format_gpu_count(self.gpus, self.mig_profile)

    def as_json(self) -> HolderJson:
        """Return the holder in the API's form."""
        return {
            "lease": self.lease,
            "user": self.who,
            "gpus": self.gpus,
            "mig_profile": self.mig_profile,
            "ends_at": None if self.until is None else self.until.iso,
            "is_closing": self.is_closing,
        }


@dataclass(frozen=True)
class Waiter:
    """A waiting lease.

    ``position`` counts from 1 within the queue for one kind of GPU; ``about`` is the estimated start, None if unknown.
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
        """The requested GPUs and hours as text."""
        return f"{format_gpu_count(self.gpus, self.mig_profile)} for {format_hours(self.hours)}"

    def as_json(self) -> WaiterJson:
        """Return the waiting lease in the API's form."""
        return {
            "lease": self.lease,
            "position": self.position,
            "user": self.who,
            "gpus": self.gpus,
            "mig_profile": self.mig_profile,
            "hours": self.hours,
            "requested_at": self.since.iso,
            "starts_at": None if self.about is None else self.about.iso,
        }


@dataclass(frozen=True)
class QueueView:
    """All holders and waiting leases; ``error`` says why the GPUs are unknown.

    ``quarantined`` and ``drained`` count GPUs; ``now`` is seconds since the Unix epoch.
    """

    holders: tuple[Holder, ...]
    waiters: tuple[Waiter, ...]
    kinds: tuple[GpuKind, ...]
    quarantined: int
    drained: int
    error: str | None
    now: float

    def as_json(self) -> QueueJson:
        """Return the queue in the API's form; unknown GPUs are null."""
        return {
            "kinds": [kind.as_json() for kind in self.kinds] if self.error is None else None,
            "holders": [holder.as_json() for holder in self.holders],
            "waiting": [waiter.as_json() for waiter in self.waiters],
        }


async def build_queue_view(workbench: Workbench, viewer: Viewer) -> QueueView:
    """Return the queue now, as ``viewer`` may see it."""
    standing = await asyncio.to_thread(workbench.ledger.snapshot, now=workbench.clock())
    error: str | None = None
    gpus: tuple[Gpu, ...] = ()
    try:
        gpus = await workbench.gpus.last_inventory()
    except Unknown as unknown:
        error = str(unknown)
    entries = sorted(
        workbench.controller.queue(),
        key=lambda entry: (entry.lease.mig_profile or "", entry.place.position),
    )
    offers = build_gpu_availability(gpus, standing.leases, standing.quarantines, standing.drains)
    return QueueView(
        holders=tuple(_holders(workbench, viewer, standing.leases)),
        waiters=tuple(_waiter(workbench, viewer, entry) for entry in entries),
        kinds=summarize_kinds(offers),
        quarantined=sum(offer.quarantine is not None for offer in offers),
        drained=sum(offer.drain is not None for offer in offers),
        error=error,
        now=time.time(),
    )


def format_position(workbench: Workbench, lease: Lease, queued: QueuePosition) -> str:
    """Return ``Waiting for 2 GPUs: position 3 of 5, about 14:30 UTC``."""
    about = _timestamp(workbench, queued.starts_at)
    when = "no estimate yet" if about is None else f"about {about.format(time.time())}"
    return (
        f"Waiting for {format_gpu_count(lease.gpu_count, lease.mig_profile)}: "
        f"position {queued.position} of {queued.queue_length}, {when}"
    )


async def build_wait_view(workbench: Workbench, viewer: Viewer, queued: QueuePosition) -> WaitJson:
    """Return the wait of the request at ``queued``: its position, the requests ahead, and the holders."""
    queue = workbench.controller.queue_of(queued.lease_id)
    queued = workbench.controller.position_of(queued.lease_id) or queued
    own = queue[queued.position - 1].lease if queue else None
    kind = None if own is None else own.mig_profile
    ahead = queued.position - 1 if queue else 0
    nearest = queue[max(ahead - MAX_AHEAD_SHOWN, 0) : ahead]
    leases = [one for one in (await workbench.ledger_snapshot()).holding if one.mig_profile == kind]
    starts_at = _timestamp(workbench, queued.starts_at)
    return {
        "gpus": None if own is None else own.gpu_count,
        "mig_profile": kind,
        "position": queued.position,
        "queue_length": queued.queue_length,
        "starts_at": None if starts_at is None else starts_at.iso,
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
            viewer.display_name(lease.user),
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
        who=viewer.display_name(lease.user),
        gpus=lease.gpu_count,
        mig_profile=lease.mig_profile,
        hours=lease.hours,
        since=Timestamp(workbench.clock.to_wall(lease.requested_at)),
        about=_timestamp(workbench, place.starts_at),
    )


def _timestamp(workbench: Workbench, at: float | None) -> Timestamp | None:
    return None if at is None else Timestamp(workbench.clock.to_wall(at))
