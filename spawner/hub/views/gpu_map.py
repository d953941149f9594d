"""GPU map: builds the JSON that the GPU page and its stream show: every GPU, its holder, its readings, the queue.

One map serves all viewers of the same kind, with or without names; unknown is null. A GPU that the agent no longer
reports is still listed while a lease holds it, or while it is drained or quarantined.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import cast

from spawner.controller.queue import QueueEntry
from spawner.gpus import GpuSample
from spawner.hub.schema.gpus import (
    ChangesJson,
    MapHolderJson,
    MapJson,
    MapWaiterJson,
    OwnJson,
    TileJson,
    TileState,
)
from spawner.hub.views.availability import build_gpu_availability, summarize_kinds
from spawner.hub.views.queue import HIDDEN_NAME
from spawner.hub.views.timestamps import Timestamp
from spawner.ledger import LedgerSnapshot
from spawner.model import SIMULATED_SUFFIX, Drain, Gpu, GpuHealth, Lease, Quarantine
from spawner.policy.formatting import format_gpu_name

MAX_WAITERS_SHOWN = 50
"""Requests in the queue, of all kinds, that the map lists one by one."""
EMPTY_OWN: OwnJson = {"leases": [], "positions": []}
"""The value for a user who is absent from ``build_own_leases``."""


@dataclass(frozen=True)
class MapSnapshot:
    """The state of agent, ledger and queue at one moment.

    ``error`` says why the agent is silent; ``gpus`` are then the last known ones and ``samples`` is empty.
    The wall clock is ``clock_offset`` seconds ahead of the lease clock.
    """

    host: str | None
    gpus: tuple[Gpu, ...]
    samples: Mapping[str, GpuSample]
    ledger: LedgerSnapshot
    queue: tuple[QueueEntry, ...]
    error: str | None
    clock_offset: float

    def format_time(self, at: float) -> str:
        """Return a time of the lease clock in ISO 8601."""
        return Timestamp(at + self.clock_offset).iso


@dataclass(frozen=True)
class TileGroup:
    """Tiles with one title; ``title`` is None for whole GPUs."""

    title: str | None
    name: str | None
    tiles: list[TileJson]


def build_map(seen: MapSnapshot, *, names: bool) -> MapJson:
    """Return the whole map, with user names only where ``names`` is True."""
    leases, quarantines = seen.ledger.leases, seen.ledger.quarantines
    offers = build_gpu_availability(seen.gpus, leases, quarantines, seen.ledger.drains)
    holders = {uuid: lease for lease in leases for uuid in lease.gpu_uuids}
    kinds = () if seen.error is not None else summarize_kinds(offers)
    return {
        "at": Timestamp(time.time()).iso,
        "host": seen.host,
        "error": seen.error,
        "devices": [
            _build_tile(seen, gpu, holders.get(gpu.uuid), names=names) for gpu in _list_gpus(seen)
        ],
        "kinds": [kind.as_json() for kind in kinds],
        "queue": [
            _build_waiter(seen, entry, names=names) for entry in seen.queue[:MAX_WAITERS_SHOWN]
        ],
        "queue_length": len(seen.queue),
    }


def group_tiles(told: MapJson) -> list[TileGroup]:
    """Return the GPUs of a map in the same order; the MIG instances of one GPU form one titled group."""
    groups = []
    for key, members in groupby(
        told["devices"], lambda tile: tile["mig_profile"] and tile["index"]
    ):
        tiles = list(members)
        title = None if key is None else f"GPU {key}"
        groups.append(TileGroup(title, tiles[0]["name"], tiles))
    return groups


def build_own_leases(seen: MapSnapshot) -> dict[str, OwnJson]:
    """Return the leases and the queue positions of each user, by user name."""
    own: dict[str, OwnJson] = {}
    for lease in seen.ledger.leases:
        own.setdefault(lease.user, {"leases": [], "positions": []})["leases"].append(lease.id)
    for entry in seen.queue:
        theirs = own.setdefault(entry.lease.user, {"leases": [], "positions": []})
        theirs["positions"].append(_build_waiter(seen, entry, names=False))
    return own


def diff_maps(before: MapJson, after: MapJson) -> ChangesJson | None:
    """Return the delta that turns ``before`` into ``after``; None where the list of GPUs differs.

    The delta holds the changed keys of ``after``; under ``devices`` it holds the changed fields of the changed GPUs,
    by index.
    """
    if _uuids(before) != _uuids(after):
        return None
    changes = cast(ChangesJson, _changed(before, after))
    if "devices" in changes:
        pairs = zip(before["devices"], after["devices"], strict=True)
        changes["devices"] = {
            str(index): _changed(old, new) for index, (old, new) in enumerate(pairs) if new != old
        }
    return changes


def _changed(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in after.items() if value != before[key]}


def _uuids(told: MapJson) -> list[str]:
    return [tile["uuid"] for tile in told["devices"]]


def _list_gpus(seen: MapSnapshot) -> Iterable[Gpu]:
    """Yield the agent's GPUs by index, then the GPUs that only the ledger knows."""
    listed = sorted(seen.gpus, key=lambda gpu: (gpu.index, gpu.mig_index or 0))
    if seen.error is not None:
        listed = [replace(gpu, health=GpuHealth.UNKNOWN) for gpu in listed]
    yield from listed
    known = {gpu.uuid for gpu in listed}
    held = (uuid for lease in seen.ledger.leases for uuid in lease.gpu_uuids)
    in_ledger = (*held, *seen.ledger.quarantines, *seen.ledger.drains)
    for uuid in dict.fromkeys(uuid for uuid in in_ledger if uuid not in known):
        yield Gpu(uuid, _NO_INDEX, "", None)


_NO_INDEX = -1


def _build_tile(seen: MapSnapshot, gpu: Gpu, lease: Lease | None, *, names: bool) -> TileJson:
    drain = seen.ledger.drains.get(gpu.uuid)
    quarantine = seen.ledger.quarantines.get(gpu.uuid)
    sample = seen.samples.get(gpu.uuid)
    is_listed = gpu.index != _NO_INDEX
    return {
        "uuid": gpu.uuid,
        "index": gpu.index if is_listed else None,
        "title": format_gpu_name(gpu) if is_listed else "A GPU that does not answer",
        "name": gpu.name.removesuffix(SIMULATED_SUFFIX).strip() or None,
        "simulated": gpu.is_simulated,
        "mig_profile": gpu.mig_profile,
        "mig_index": gpu.mig_index,
        "state": _gpu_state(gpu, lease, drain, quarantine),
        "health": gpu.health,
        "memory_used_bytes": None if sample is None else sample.memory_used_bytes,
        "memory_total_bytes": gpu.memory_total_bytes,
        "temperature_celsius": None if sample is None else sample.temperature_celsius,
        "utilization_percent": None if sample is None else sample.utilization_percent,
        "power_watts": None if sample is None else sample.power_watts,
        **_build_holder(seen, lease, names=names),
        "drain": None
        if drain is None
        else {
            "reason": drain.reason,
            "by": drain.by if names else None,
            "since": seen.format_time(drain.since),
        },
        "quarantine": None
        if quarantine is None
        else {"reason": quarantine.reason, "since": seen.format_time(quarantine.since)},
    }


def _gpu_state(
    gpu: Gpu, lease: Lease | None, drain: Drain | None, quarantine: Quarantine | None
) -> TileState:
    """Return the state of highest rank: ``quarantined``, ``drained``, ``unknown``, then the lease's state."""
    if quarantine is not None:
        return "quarantined"
    if drain is not None:
        return "drained"
    if gpu.health is not GpuHealth.OK:
        return "unknown"
    if lease is None:
        return "free"
    return "held" if lease.ended_at is None else "closing"


def _build_holder(seen: MapSnapshot, lease: Lease | None, *, names: bool) -> MapHolderJson:
    if lease is None:
        return {"lease": None, "holder": None, "ends_at": None}
    return {
        "lease": lease.id,
        "holder": lease.user if names else HIDDEN_NAME,
        "ends_at": None if lease.ends_at is None else seen.format_time(lease.ends_at),
    }


def _build_waiter(seen: MapSnapshot, entry: QueueEntry, *, names: bool) -> MapWaiterJson:
    lease, place = entry.lease, entry.place
    return {
        "lease": lease.id,
        "position": place.position,
        "queue_length": place.queue_length,
        "user": lease.user if names else HIDDEN_NAME,
        "gpus": lease.gpu_count,
        "mig_profile": lease.mig_profile,
        "hours": lease.hours,
        "starts_at": None if place.starts_at is None else seen.format_time(place.starts_at),
    }
