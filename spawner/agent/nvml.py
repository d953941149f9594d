"""NVML reader: builds the agent's report from NVML, through nvitop.

Its calls block, so only the sampler's thread makes them. A missing value is ``None``. A GPU stays in every later
report, as lost if NVML loses it.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from nvitop import Device, MigDevice, PhysicalDevice, libnvml

from spawner.agent.containers import get_container_id
from spawner.agent.faults import XidListener
from spawner.agent.identity import IdentifiedGpu, identify_gpus
from spawner.agent.nvml_query import query, value_or_none
from spawner.agent.readings import GpuProcess, GpuReading, Report
from spawner.model import GpuHealth

RETRY_SECONDS = 10
"""Pause before the next attempt, after a missing driver or a GPU without a UUID."""

_WHY_NO_NVML = {
    libnvml.NVMLError_LibraryNotFound: (
        "This host has no NVIDIA driver: libnvidia-ml.so.1 was not found."
    ),
    libnvml.NVMLError_DriverNotLoaded: (
        "The NVIDIA driver is installed but not loaded; load it or restart the host."
    ),
    libnvml.NVMLError_LibRmVersionMismatch: (
        "The NVIDIA driver was updated while loaded; restart the host."
    ),
}


class Nvml:
    """The GPUs of this host; the first report opens NVML, and a later one retries after a failure."""

    def __init__(self) -> None:
        self._gpus: dict[str, IdentifiedGpu] = {}  # by UUID
        self._xid_listener = XidListener()
        self._is_open = False
        self._error: str | None = None
        self._retry_at = 0.0  # monotonic; infinity once every GPU has an identity

    def report(self) -> Report:
        """Return a report of every GPU."""
        if time.monotonic() >= self._retry_at:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._identify_gpus()
        gpus = sorted(self._gpus.values(), key=lambda gpu: gpu.identity.index)
        return Report(
            sampled_at=time.time(),
            host=platform.node(),
            driver_version=value_or_none(Device.driver_version()) if self._is_open else None,
            cuda_driver_version=value_or_none(Device.cuda_driver_version())
            if self._is_open
            else None,
            error=self._error,
            gpus=tuple(gpu.identity for gpu in gpus),
            readings={reading.uuid: reading for gpu in gpus for reading in _read_gpu(gpu)},
            xids=self._xid_listener.last_fatal(),
        )

    def _identify_gpus(self) -> None:
        try:
            libnvml.nvmlInit()
            devices = Device.all()
        except libnvml.NVMLError as error:
            self._error = _WHY_NO_NVML.get(type(error), f"NVML does not work: {error}.")
            return
        self._is_open = True
        self._gpus |= {gpu.identity.uuid: gpu for gpu in identify_gpus(devices)}
        self._xid_listener.listen({uuid: gpu.device for uuid, gpu in self._gpus.items()})
        named = {gpu.identity.index for gpu in self._gpus.values()}
        nameless = [str(device.index) for device in devices if device.index not in named]
        self._error = " ".join(_list_problems(nameless, self._gpus.values())) or None
        if not nameless:
            self._retry_at = float("inf")


def _list_problems(nameless: Sequence[str], gpus: Iterable[IdentifiedGpu]) -> Iterator[str]:
    """Yield one sentence for each GPU or MIG instance that no lease can get."""
    if nameless:
        yield f"NVML has lost GPU {', '.join(nameless)} (by index) and cannot say its UUID."
    for gpu in gpus:
        if gpu.unknown_instances:
            numbers = ", ".join(map(str, gpu.unknown_instances))
            yield f"NVML does not report the profile of MIG instance {numbers} of GPU {gpu.identity.index}."


def _read_gpu(gpu: IdentifiedGpu) -> Iterator[GpuReading]:
    """Yield the readings of a GPU and of each of its MIG instances."""
    whole = _read(gpu.identity.uuid, gpu.device)
    yield whole
    for instance, device in zip(gpu.identity.mig_instances, gpu.instances, strict=True):
        yield _read_instance(instance.uuid, device, whole)


def _read(uuid: str, device: PhysicalDevice) -> GpuReading:
    """Return all variable values of a GPU; without any answer its health is unknown."""
    try:
        memory = query(device, "nvmlDeviceGetMemoryInfo")
        utilization = query(device, "nvmlDeviceGetUtilizationRates")
        power = query(device, "nvmlDeviceGetPowerUsage")
        power_limit = query(device, "nvmlDeviceGetPowerManagementLimit")
        reading = GpuReading(
            uuid=uuid,
            memory_used_bytes=memory and memory.used,
            memory_total_bytes=memory and memory.total,
            temperature_celsius=query(
                device, "nvmlDeviceGetTemperature", libnvml.NVML_TEMPERATURE_GPU
            ),
            utilization_percent=utilization and utilization.gpu,
            power_watts=None if power is None else power / 1000,
            power_limit_watts=None if power_limit is None else power_limit / 1000,
            sm_clock_mhz=query(device, "nvmlDeviceGetClockInfo", libnvml.NVML_CLOCK_SM),
            processes=_read_processes(device),
        )
    except libnvml.NVMLError_GpuIsLost:
        return GpuReading(uuid, health=GpuHealth.LOST)
    is_silent = reading == GpuReading(uuid)
    return replace(reading, health=GpuHealth.UNKNOWN if is_silent else GpuHealth.OK)


def _read_instance(uuid: str, device: MigDevice, whole: GpuReading) -> GpuReading:
    """Return the values of a MIG instance; a destroyed one gives no answer, so its health is unknown."""
    try:
        memory = query(device, "nvmlDeviceGetMemoryInfo")
        utilization = query(device, "nvmlDeviceGetUtilizationRates")
        reading = GpuReading(
            uuid=uuid,
            memory_used_bytes=memory and memory.used,
            memory_total_bytes=memory and memory.total,
            utilization_percent=utilization and utilization.gpu,
            processes=_read_processes(device),
        )
    except libnvml.NVMLError_GpuIsLost:
        return GpuReading(uuid, health=GpuHealth.LOST)
    health = GpuHealth.UNKNOWN if reading == GpuReading(uuid) else GpuHealth.OK
    return replace(reading, temperature_celsius=whole.temperature_celsius, health=health)


def _read_processes(device: Device) -> tuple[GpuProcess, ...]:
    used_bytes: dict[int, int | None] = {}
    for kind in ("Graphics", "Compute"):
        for process in query(device, f"nvmlDeviceGet{kind}RunningProcesses") or ():
            used_bytes[process.pid] = process.usedGpuMemory
    return tuple(
        GpuProcess(pid, get_container_id(pid), used_bytes[pid]) for pid in sorted(used_bytes)
    )
