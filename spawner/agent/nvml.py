"""Asks NVML, through nvitop, for everything the agent tells.

Only this module imports nvitop, and it blocks: it is called from the sampler's thread alone. What
NVML does not know is ``None``; a GPU once seen stays in every report, as lost if need be.
"""

from __future__ import annotations

import platform
import time
from dataclasses import replace
from typing import Any, TypeVar

from nvitop import Device, libnvml

from spawner.agent.containers import container_of
from spawner.agent.readings import GpuIdentity, GpuProcess, GpuReading, Report
from spawner.model import GpuHealth

_T = TypeVar("_T")

RETRY_SECONDS = 10
"""How long a missing driver, or a GPU that could not say its UUID, is left alone."""

# nvitop prints a page of advice where there is no driver; the report's one sentence replaces it.
libnvml.LOGGER.disabled = True

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
        self._gpus: dict[str, tuple[GpuIdentity, Device]] = {}  # by UUID
        self._is_open = False
        self._error: str | None = None
        self._look_again_at = 0.0  # monotonic; infinity once every GPU said who it is

    def report(self) -> Report:
        """Look at every GPU now."""
        if time.monotonic() >= self._look_again_at:
            self._look_again_at = time.monotonic() + RETRY_SECONDS
            self._find_gpus()
        gpus = sorted(self._gpus.values(), key=lambda pair: pair[0].index)
        return Report(
            sampled_at=time.time(),
            host=platform.node(),
            driver_version=_known(Device.driver_version()) if self._is_open else None,
            cuda_driver_version=_known(Device.cuda_driver_version()) if self._is_open else None,
            error=self._error,
            gpus=tuple(gpu for gpu, _ in gpus),
            readings=tuple(_read(gpu.uuid, device) for gpu, device in gpus),
        )

    def _find_gpus(self) -> None:
        try:
            libnvml.nvmlInit()
            devices = Device.all()
        except libnvml.NVMLError as error:
            self._error = _WHY_NO_NVML.get(type(error), f"NVML does not work: {error}.")
            return
        self._is_open = True
        for device in devices:
            gpu = _identify(device)
            if gpu is not None:
                self._gpus.setdefault(gpu.uuid, (gpu, device))
        named = {gpu.index for gpu, _ in self._gpus.values()}
        nameless = [str(device.index) for device in devices if device.index not in named]
        self._error = None
        if nameless:
            which = ", ".join(nameless)
            self._error = f"NVML has lost GPU {which} (by index) and cannot say its UUID."
        else:
            self._look_again_at = float("inf")


def _known(value: _T) -> _T | None:
    """Return what nvitop says, with its ``NA`` as ``None``."""
    return value if libnvml.nvmlCheckReturn(value) else None


def _ask(device: Device, call: str, *arguments: int) -> Any:  # noqa: ANN401 one type per call
    """Return NVML's answer; ``None`` when it has none. Raises ``NVMLError_GpuIsLost`` alone.

    nvitop's own ``Device.memory_info`` answers with the host's memory when NVML has no answer.
    """
    try:
        return libnvml.nvmlQuery(
            call,
            device.handle,
            *arguments,
            default=None,
            ignore_errors=False,
            ignore_function_not_found=True,
        )
    except libnvml.NVMLError_GpuIsLost:
        raise
    except libnvml.NVMLError:
        return None


def _identify(device: Device) -> GpuIdentity | None:
    """Return who this GPU is; ``None`` when it cannot say so."""
    uuid, name = _known(device.uuid()), _known(device.name())
    if uuid is None or name is None:
        return None
    capability, mig_mode = _known(device.cuda_compute_capability()), _known(device.mig_mode())
    return GpuIdentity(
        uuid=uuid,
        index=device.index,
        name=name,
        memory_total_bytes=_read(uuid, device).memory_total_bytes,
        compute_capability=capability and "{}.{}".format(*capability),
        pci_bus_id=_known(device.bus_id()),
        mig_mode=mig_mode and mig_mode.lower(),
    )


def _read(uuid: str, device: Device) -> GpuReading:
    """Read everything that changes; a GPU that answers nothing at all has unknown health."""
    try:
        memory = _ask(device, "nvmlDeviceGetMemoryInfo")
        utilization = _ask(device, "nvmlDeviceGetUtilizationRates")
        power = _ask(device, "nvmlDeviceGetPowerUsage")
        power_limit = _ask(device, "nvmlDeviceGetPowerManagementLimit")
        reading = GpuReading(
            uuid=uuid,
            memory_used_bytes=memory and memory.used,
            memory_total_bytes=memory and memory.total,
            temperature_celsius=_ask(
                device, "nvmlDeviceGetTemperature", libnvml.NVML_TEMPERATURE_GPU
            ),
            utilization_percent=utilization and utilization.gpu,
            power_watts=None if power is None else power / 1000,
            power_limit_watts=None if power_limit is None else power_limit / 1000,
            sm_clock_mhz=_ask(device, "nvmlDeviceGetClockInfo", libnvml.NVML_CLOCK_SM),
            processes=_read_processes(device),
        )
    except libnvml.NVMLError_GpuIsLost:
        return GpuReading(uuid, health=GpuHealth.LOST)
    is_silent = reading == GpuReading(uuid)
    return replace(reading, health=GpuHealth.UNKNOWN if is_silent else GpuHealth.OK)


def _read_processes(device: Device) -> tuple[GpuProcess, ...]:
    used_bytes: dict[int, int | None] = {}
    for kind in ("Graphics", "Compute"):
        for process in _ask(device, f"nvmlDeviceGet{kind}RunningProcesses") or ():
            used_bytes[process.pid] = process.usedGpuMemory
    return tuple(GpuProcess(pid, container_of(pid), used_bytes[pid]) for pid in sorted(used_bytes))
