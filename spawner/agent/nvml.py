"""Asks NVML, through nvitop, for everything the agent tells.

It blocks: it is called from the sampler's thread alone. What NVML does not know is ``None``; a GPU
once seen stays in every report, as lost if need be.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from nvitop import Device, MigDevice, PhysicalDevice, libnvml

from spawner.agent.nvml_query import query, value_or_none
from spawner.agent.containers import get_container_id
from spawner.agent.faults import XidListener
from spawner.agent.identity import IdentifiedGpu, identify_gpus
from spawner.agent.readings import GpuProcess, GpuReading, Report
from spawner.model import GpuHealth

RETRY_SECONDS = 10
"""How long a missing driver, or a GPU that could not say its UUID, is left alone."""

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
    """The GPUs of this host, opened at the first report and again after a failure."""

    def __init__(self) -> None:
        self._gpus: dict[str, IdentifiedGpu] = {}  # by UUID
        self._faults = XidListener()
        self._is_open = False
        self._error: str | None = None
        self._look_again_at = 0.0  # monotonic; infinity once every GPU said who it is

    def report(self) -> Report:
        """Look at every GPU now."""
        if time.monotonic() >= self._look_again_at:
            self._look_again_at = time.monotonic() + RETRY_SECONDS
            self._find_gpus()
        gpus = sorted(self._gpus.values(), key=lambda gpu: gpu.identity.index)
        return Report(
            sampled_at=time.time(),
            host=platform.node(),
            driver_version=value_or_none(Device.driver_version()) if self._is_open else None,
            cuda_driver_version=value_or_none(Device.cuda_driver_version()) if self._is_open else None,
            error=self._error,
            gpus=tuple(gpu.identity for gpu in gpus),
            readings={reading.uuid: reading for gpu in gpus for reading in _read_gpu(gpu)},
            xids=self._faults.last_fatal(),
        )

    def _find_gpus(self) -> None:
        try:
            libnvml.nvmlInit()
            devices = Device.all()
        except libnvml.NVMLError as error:
            self._error = _WHY_NO_NVML.get(type(error), f"NVML does not work: {error}.")
            return
        self._is_open = True
        self._gpus |= {gpu.identity.uuid: gpu for gpu in identify_gpus(devices)}
        self._faults.listen({uuid: gpu.device for uuid, gpu in self._gpus.items()})
        named = {gpu.identity.index for gpu in self._gpus.values()}
        nameless = [str(device.index) for device in devices if device.index not in named]
        self._error = " ".join(_complaints(nameless, self._gpus.values())) or None
        if not nameless:
            self._look_again_at = float("inf")


def _complaints(nameless: Sequence[str], gpus: Iterable[IdentifiedGpu]) -> Iterator[str]:
    """Yield a sentence for each thing that is there and that nobody can be given."""
    if nameless:
        yield f"NVML has lost GPU {', '.join(nameless)} (by index) and cannot say its UUID."
    for gpu in gpus:
        if gpu.unknown_instances:
            numbers = ", ".join(map(str, gpu.unknown_instances))
            yield f"NVML does not say the profile of MIG instance {numbers} of GPU {gpu.identity.index}."


def _read_gpu(gpu: IdentifiedGpu) -> Iterator[GpuReading]:
    """Read a GPU and each of its MIG instances."""
    whole = _read(gpu.identity.uuid, gpu.device)
    yield whole
    for instance, device in zip(gpu.identity.mig_instances, gpu.instances, strict=True):
        yield _read_instance(instance.uuid, device, whole)


def _read(uuid: str, device: PhysicalDevice) -> GpuReading:
    """Read everything that changes; a GPU that answers nothing at all has unknown health."""
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
    """Read what NVML has of a MIG instance; a destroyed one, which is silent, has unknown health."""
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
    return tuple(GpuProcess(pid, get_container_id(pid), used_bytes[pid]) for pid in sorted(used_bytes))
