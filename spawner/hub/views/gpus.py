"""GPUs view: builds the list of GPUs for one viewer: health, holder, drain and quarantine.

The settings decide which names are shown. A quarantined or drained GPU is listed even when the agent lacks it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spawner.hub.schema.gpus import DeviceJson, DevicesJson, DrainJson, QuarantineJson
from spawner.hub.views.queue import Viewer
from spawner.hub.views.timestamps import Timestamp
from spawner.hub.workbench import Workbench
from spawner.ledger import LedgerSnapshot
from spawner.model import Drain, Gpu, GpuHealth, Quarantine, Unknown


@dataclass(frozen=True)
class QuarantineView:
    """A quarantine; ``reason`` completes "GPU 3 …"; the ``returned_*`` fields are None until an admin ends it."""

    reason: str
    since: Timestamp
    returned_at: Timestamp | None
    returned_by: str | None

    def as_json(self) -> QuarantineJson:
        """Return the quarantine in the API's form."""
        return {
            "reason": self.reason,
            "since": self.since.iso,
            "returned_at": None if self.returned_at is None else self.returned_at.iso,
            "returned_by": self.returned_by,
        }


@dataclass(frozen=True)
class DrainView:
    """A drain; ``by`` is the admin's name as the viewer may see it."""

    reason: str
    by: str
    since: Timestamp

    def as_json(self) -> DrainJson:
        """Return the drain in the API's form."""
        return {"reason": self.reason, "by": self.by, "since": self.since.iso}


@dataclass(frozen=True)
class GpuView:
    """One GPU or MIG instance; ``gpu`` is None when only the ledger knows it, ``holder`` when it is free."""

    uuid: str
    gpu: Gpu | None
    holder: str | None
    last_quarantine: QuarantineView | None
    drain: DrainView | None

    @property
    def quarantine(self) -> QuarantineView | None:
        """The open quarantine, None when there is none."""
        last = self.last_quarantine
        return last if last is not None and last.returned_at is None else None

    def as_json(self) -> DeviceJson:
        """Return the GPU in the API's form."""
        gpu, quarantine = self.gpu, self.quarantine
        return {
            "uuid": self.uuid,
            "index": None if gpu is None else gpu.index,
            "name": None if gpu is None else gpu.name,
            "mig_profile": None if gpu is None else gpu.mig_profile,
            "health": GpuHealth.UNKNOWN if gpu is None else gpu.health,
            "holder": self.holder,
            "quarantine": None if quarantine is None else quarantine.as_json(),
            "drain": None if self.drain is None else self.drain.as_json(),
            "last_quarantine": None
            if self.last_quarantine is None
            else self.last_quarantine.as_json(),
        }


@dataclass(frozen=True)
class GpusView:
    """All GPUs; when ``error`` says why the agent is silent, only the quarantined and drained ones."""

    gpus: tuple[GpuView, ...]
    error: str | None

    def as_json(self) -> DevicesJson:
        """Return the GPUs in the API's form."""
        return {"devices": [gpu.as_json() for gpu in self.gpus], "error": self.error}


async def build_gpus_view(workbench: Workbench, viewer: Viewer) -> GpusView:
    """Return the GPUs as ``viewer`` may see them; raises Unknown when the ledger does not answer."""
    standing = await asyncio.to_thread(workbench.ledger.snapshot, now=workbench.clock())
    last = {q.gpu_uuid: q for q in await asyncio.to_thread(workbench.ledger.last_quarantines)}
    error: str | None = None
    gpus: tuple[Gpu, ...] = ()
    try:
        gpus = await workbench.gpus.last_inventory()
    except Unknown as unknown:
        error = str(unknown)
    return GpusView(gpus=tuple(_views(workbench, viewer, gpus, standing, last)), error=error)


def _views(
    workbench: Workbench,
    viewer: Viewer,
    gpus: Sequence[Gpu],
    standing: LedgerSnapshot,
    last: Mapping[str, Quarantine],
) -> list[GpuView]:
    holders = {uuid: lease for lease in standing.leases for uuid in lease.gpu_uuids}
    known: dict[str, Gpu | None] = {
        gpu.uuid: gpu for gpu in sorted(gpus, key=lambda gpu: (gpu.index, gpu.mig_index or 0))
    }
    unseen = (*standing.quarantines, *standing.drains)
    known |= {uuid: None for uuid in unseen if uuid not in known}
    return [
        GpuView(
            uuid=uuid,
            gpu=gpu,
            holder=viewer.display_name(holders[uuid].user) if uuid in holders else None,
            last_quarantine=_build_quarantine_view(workbench, viewer, last.get(uuid)),
            drain=_build_drain_view(workbench, viewer, standing.drains.get(uuid)),
        )
        for uuid, gpu in known.items()
    ]


def _build_drain_view(
    workbench: Workbench, viewer: Viewer, drain: Drain | None
) -> DrainView | None:
    if drain is None:
        return None
    since = Timestamp(workbench.clock.to_wall(drain.since))
    return DrainView(drain.reason, viewer.display_name(drain.by), since)


def _build_quarantine_view(
    workbench: Workbench, viewer: Viewer, quarantine: Quarantine | None
) -> QuarantineView | None:
    if quarantine is None:
        return None
    at, by = quarantine.returned_at, quarantine.returned_by
    return QuarantineView(
        reason=quarantine.reason,
        since=Timestamp(workbench.clock.to_wall(quarantine.since)),
        returned_at=None if at is None else Timestamp(workbench.clock.to_wall(at)),
        returned_by=None if by is None else viewer.display_name(by),
    )
