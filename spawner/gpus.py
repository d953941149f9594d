"""Agent client: requests the GPU inventory and GPU samples from a gpu-agent.

No answer and a malformed answer both raise ``Unknown``, because neither proves anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Literal, TypeVar

import aiohttp
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from spawner.model import Gpu, GpuHealth, Unknown

log = logging.getLogger(__name__)

INVENTORY_SECONDS = 2
"""Maximum age of the cached inventory; the cache spares a spawn the round trip to the agent."""

_TIMEOUT = aiohttp.ClientTimeout(
    total=10
)  # many simultaneous spawns keep the hub itself busy for seconds
_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

_DIGITS = r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_GpuUuid = Annotated[str, Field(pattern="^GPU" + _DIGITS)]
_MigUuid = Annotated[str, Field(pattern="^MIG" + _DIGITS)]
_Uuid = Annotated[str, Field(pattern="^(GPU|MIG)" + _DIGITS)]
_Profile = Annotated[str, Field(pattern=r"^([1-9]c\.)?[1-9]g\.[1-9][0-9]{0,3}gb([+-][a-z.]+)*$")]
_Count = Annotated[int, Field(ge=0)]
_Watts = Annotated[float, Field(ge=0)]
_Seconds = Annotated[float, Field(ge=0)]
_Percent = Annotated[int, Field(ge=0, le=100)]


@dataclass(frozen=True, config=_STRICT)
class GpuProcessSample:
    """A process on a GPU by its host PID; ``container_id`` is None outside containers."""

    pid: _Count
    container_id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    memory_used_bytes: _Count | None


@dataclass(frozen=True, config=_STRICT)
class GpuSample:
    """Sample of one GPU or MIG instance; ``None`` means that NVML gave no value.

    A MIG instance has the temperature of its GPU.
    """

    uuid: _Uuid
    memory_used_bytes: _Count | None
    memory_total_bytes: _Count | None
    temperature_celsius: int | None
    utilization_percent: _Percent | None
    power_watts: _Watts | None
    power_limit_watts: _Watts | None
    sm_clock_mhz: _Count | None
    health: GpuHealth
    processes: tuple[GpuProcessSample, ...]


@dataclass(frozen=True, config=_STRICT)
class _MigInstance:
    uuid: _MigUuid
    mig_index: _Count
    profile: _Profile
    memory_total_bytes: _Count | None


@dataclass(frozen=True, config=_STRICT)
class _InventoryGpu:
    uuid: _GpuUuid
    index: _Count
    name: Annotated[str, Field(min_length=1)]
    memory_total_bytes: _Count | None
    compute_capability: str | None
    pci_bus_id: str | None
    mig_mode: Literal["enabled", "disabled"] | None
    health: GpuHealth
    simulated: bool
    numa_node: _Count | None
    nvlink_group: _Count | None
    xid: _Count | None
    xid_at: _Seconds | None
    mig_instances: tuple[_MigInstance, ...]

    def leaves(self, driver: str | None, cuda: str | None) -> tuple[Gpu, ...]:
        """Return the leasable units of this GPU: the GPU itself, or its MIG instances in MIG mode.

        ``driver`` and ``cuda`` are the versions of the host's driver.
        """
        whole = Gpu(
            self.uuid,
            self.index,
            self.name,
            self.memory_total_bytes,
            self.health,
            numa_node=self.numa_node,
            nvlink_group=self.nvlink_group,
            xid=self.xid,
            xid_at=self.xid_at,
            compute_capability=self.compute_capability,
            driver_version=driver,
            cuda_driver_version=cuda,
        )
        if self.mig_mode != "enabled":
            return (whole,)
        return tuple(
            replace(
                whole,
                uuid=instance.uuid,
                memory_total_bytes=instance.memory_total_bytes,
                mig_profile=instance.profile,
                mig_index=instance.mig_index,
                nvlink_group=None,
            )
            for instance in self.mig_instances
        )


@dataclass(frozen=True, config=_STRICT)
class _Inventory:
    schema: Literal[1]
    host: str
    driver_version: str | None
    cuda_driver_version: str | None
    error: str | None
    gpus: tuple[_InventoryGpu, ...]

    def leaves(self) -> tuple[Gpu, ...]:
        versions = self.driver_version, self.cuda_driver_version
        return tuple(leaf for gpu in self.gpus for leaf in gpu.leaves(*versions))

    def uuids(self) -> list[str]:
        return [
            uuid for gpu in self.gpus for uuid in (gpu.uuid, *(i.uuid for i in gpu.mig_instances))
        ]


@dataclass(frozen=True, config=_STRICT)
class _Samples:
    schema: Literal[1]
    sampled_at: float
    error: str | None
    gpus: tuple[GpuSample, ...]

    def uuids(self) -> list[str]:
        return [gpu.uuid for gpu in self.gpus]


_INVENTORY = TypeAdapter(_Inventory)
_SAMPLES = TypeAdapter(_Samples)
_Answer = TypeVar("_Answer", _Inventory, _Samples)


class AgentClient:
    """Client of one gpu-agent; it belongs to one event loop, and its owner closes it."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._gpus: tuple[Gpu, ...] = ()
        self._host: str | None = None
        self._known_until = 0.0
        self._last_refresh: asyncio.Task[None] | None = None
        self._last_error: str | None = None
        self._refreshing: asyncio.Task[None] | None = None

    @property
    def host(self) -> str | None:
        """Return the host name of the last inventory, or None before the first one."""
        return self._host

    async def inventory(self) -> tuple[Gpu, ...]:
        """Return the leasable units of the agent's host, at most ``INVENTORY_SECONDS`` old.

        These are all GPUs, with the MIG instances in place of a GPU in MIG mode; there are none without a driver.
        Raises ``Unknown`` when the agent gives no answer.
        """
        refreshing = self._refresh_if_stale()
        if refreshing is not None:
            await asyncio.shield(refreshing)
        return self._gpus

    async def last_inventory(self) -> tuple[Gpu, ...]:
        """Return the last result of ``inventory``, or raise its last error; only the first call waits for the agent.

        A stale result starts a refresh in the background for the next call.
        """
        if self._last_refresh is None:
            return await self.inventory()
        self._refresh_if_stale()
        self._last_refresh.result()
        return self._gpus

    async def samples(self) -> dict[str, GpuSample]:
        """Return the current sample of each unit, by UUID. Raises ``Unknown`` when the agent gives no answer."""
        answer = await self._get("/samples", _SAMPLES)
        return {gpu.uuid: gpu for gpu in answer.gpus}

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _refresh_if_stale(self) -> asyncio.Task[None] | None:
        if time.monotonic() < self._known_until:
            return None
        # simultaneous callers share one request: a thousand would overload the agent
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
            self._refreshing.add_done_callback(self._keep_refresh)
        return self._refreshing

    def _keep_refresh(self, refresh: asyncio.Task[None]) -> None:
        if not refresh.cancelled():
            refresh.exception()  # asyncio logs an exception that no code retrieves
            self._last_refresh = refresh

    async def _refresh(self) -> None:
        answer = await self._get("/inventory", _INVENTORY)
        if answer.error is not None and answer.error != self._last_error:
            log.warning("agent=%s state=degraded reason=%s", self._url, answer.error)
        self._last_error = answer.error
        self._gpus = answer.leaves()
        self._host = answer.host
        self._known_until = time.monotonic() + INVENTORY_SECONDS

    async def _get(self, path: str, shape: TypeAdapter[_Answer]) -> _Answer:
        body = await self._fetch(path)
        try:
            answer = shape.validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(step) for step in first["loc"]) or "the answer"
            raise Unknown(
                f"The gpu-agent at {self._url} has another version than the hub: {path} returned {where}: "
                f"{first['msg']}."
            ) from None
        uuids = answer.uuids()
        if len(set(uuids)) != len(uuids):
            raise Unknown(f"The gpu-agent at {self._url} lists one GPU twice.")
        return answer

    async def _fetch(self, path: str) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        try:
            async with self._session.get(self._url + path, allow_redirects=False) as response:
                status, body = response.status, await response.read()
        except TimeoutError:
            raise Unknown(f"The gpu-agent at {self._url} did not answer in time.") from None
        except aiohttp.ClientError as error:
            raise Unknown(f"The gpu-agent at {self._url} cannot be reached: {error}.") from error
        if status != HTTPStatus.OK:
            raise Unknown(f"The gpu-agent at {self._url} answered {path} with status {status}.")
        return body
