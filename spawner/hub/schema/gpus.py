"""Wire shapes of GPUs: the list, the map, and the events of its stream."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from spawner.hub.schema.base import Bytes, Count, Hours, MigProfile, Time
from spawner.model import GpuHealth

TileState = Literal["quarantined", "drained", "unknown", "free", "held", "closing"]


class KindJson(TypedDict):
    """The GPUs of one kind."""

    mig_profile: MigProfile
    total: Count
    free: Count
    drained: Count


class QuarantineJson(TypedDict):
    """A GPU that no lease gets because it failed."""

    reason: str
    since: Time
    returned_at: Time | None
    returned_by: str | None


class DrainJson(TypedDict):
    """A GPU that no new lease gets because an admin said so."""

    reason: str
    by: str
    since: Time


class DeviceJson(TypedDict):
    """A GPU or a MIG instance; fields that only the agent knows are null where it does not list the device."""

    uuid: str
    index: int | None
    name: str | None
    mig_profile: MigProfile
    health: GpuHealth
    holder: str | None
    quarantine: QuarantineJson | None
    drain: DrainJson | None
    last_quarantine: QuarantineJson | None


class DevicesJson(TypedDict):
    """Every GPU and MIG instance."""

    devices: list[DeviceJson]
    error: Annotated[str | None, Field(description="The reason why the GPUs are unknown.")]


class MapQuarantineJson(TypedDict):
    """A quarantine as the map shows it."""

    reason: str
    since: Time


class MapDrainJson(TypedDict):
    """A drain as the map shows it."""

    reason: str
    by: str | None
    since: Time


class MapHolderJson(TypedDict):
    """The lease that holds a tile; null where it is free."""

    lease: str | None
    holder: str | None
    ends_at: Time | None


class TileJson(MapHolderJson):
    """One GPU or MIG instance of the map; unknown is null."""

    uuid: str
    index: int | None
    title: str
    name: str | None
    simulated: bool
    mig_profile: MigProfile
    mig_index: int | None
    state: TileState
    health: GpuHealth
    memory_used_bytes: Bytes | None
    memory_total_bytes: Bytes | None
    temperature_celsius: float | None
    utilization_percent: float | None
    power_watts: float | None
    drain: MapDrainJson | None
    quarantine: MapQuarantineJson | None


class MapWaiterJson(TypedDict):
    """A request that waits, as the map shows it."""

    lease: str
    position: int
    queue_length: int
    user: str
    gpus: Count
    mig_profile: MigProfile
    hours: Hours
    starts_at: Time | None


class MapJson(TypedDict):
    """Event ``map``: every GPU, its holder, its readings, and the queue."""

    at: Time
    host: str | None
    error: str | None
    devices: list[TileJson]
    kinds: list[KindJson]
    queue: list[MapWaiterJson]
    queue_length: Count


class ChangesJson(TypedDict):
    """Event ``changes``: the changed fields of the map, and under ``devices`` those of each changed tile by index."""

    at: NotRequired[Time]
    host: NotRequired[str | None]
    error: NotRequired[str | None]
    devices: NotRequired[dict[str, dict[str, Any]]]
    kinds: NotRequired[list[KindJson]]
    queue: NotRequired[list[MapWaiterJson]]
    queue_length: NotRequired[Count]


class OwnJson(TypedDict):
    """Event ``own``: the viewer's leases and queue positions."""

    leases: list[str]
    positions: list[MapWaiterJson]


EVENTS: dict[str, Any] = {"map": MapJson, "changes": ChangesJson, "own": OwnJson}
"""The shape of each event of the stream."""
