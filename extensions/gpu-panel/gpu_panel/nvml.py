"""NVML reader: reads the GPUs of this server through nvitop's library API.

Nothing is imported or opened before the first call; nvitop's ``NA`` becomes ``None`` here.
"""

from __future__ import annotations

import ctypes
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from gpu_panel.message import GpuHealth, GpuReading, Reading

if TYPE_CHECKING:
    from nvitop import Device  # type: ignore[import-untyped]

LIBRARY = "libnvidia-ml.so.1"


class NvmlReader:
    """A callable that returns one ``Reading``; call it from one thread at a time.

    The devices are listed at the first call, and again after a call in which a device had no handle.
    """

    def __init__(self) -> None:
        self._devices: list[Device] = []

    def __call__(self) -> Reading:
        """Return a reading, with about six cheap NVML calls per GPU; a driver error becomes a value."""
        sampled_at = round(time.time(), 3)
        if not has_library():
            return Reading(sampled_at)
        from nvitop import libnvml

        try:
            if not self._devices:
                self._devices = _list_devices()
            gpus = tuple(_read(device, index) for index, device in enumerate(self._devices))
        except libnvml.NVMLError as error:
            self._devices = []
            return Reading(sampled_at, error=f"The NVIDIA driver does not answer: {error}.")
        if any(device.handle is None for device in self._devices):
            self._devices = []
        return Reading(sampled_at, gpus)


@cache
def has_library() -> bool:
    """Return whether NVML is installed; without it nvitop would print a long error."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def _list_devices() -> list[Device]:
    """Return the GPUs and MIG instances of this server; raises ``NVMLError``."""
    from nvitop import Device

    physical = Device.from_indices(range(Device.count()))
    return [leaf for device in physical for leaf in device.to_leaf_devices()]


def _read(device: Device, index: int) -> GpuReading:
    physical = _physical(device)
    with device.oneshot():
        memory = device.memory_info()
        values = {
            "memory_used_bytes": _known(memory.used),
            "memory_total_bytes": _known(memory.total),
            # NVML has no temperature per MIG instance, only that of its GPU
            "temperature_celsius": _known(physical.temperature()),
            "utilization_percent": _known(device.gpu_utilization()),
            "power_watts": _watts(device.power_usage()),
            "power_limit_watts": _watts(device.power_limit()),
        }
    is_silent = all(value is None for value in values.values())
    health = _probe_health(physical) if is_silent else GpuHealth.OK
    name = None if device.handle is None else _known(device.name())
    return GpuReading(_known(device.uuid()), index, name, health, **values)


def _physical(device: Device) -> Device:
    """Return the GPU of a MIG instance, or the GPU itself."""
    from nvitop import MigDevice

    return device.parent if isinstance(device, MigDevice) else device


def _probe_health(physical: Device) -> GpuHealth:
    """Return the health of a GPU without values; nvitop's own methods swallow the error."""
    from nvitop import libnvml

    try:
        handle = libnvml.nvmlQuery(
            "nvmlDeviceGetHandleByIndex", physical.index, ignore_errors=False
        )
        libnvml.nvmlQuery("nvmlDeviceGetMemoryInfo", handle, ignore_errors=False)
    except libnvml.NVMLError_GpuIsLost:
        return GpuHealth.LOST
    except libnvml.NVMLError:
        return GpuHealth.UNKNOWN
    return GpuHealth.OK


def _known(value: Any) -> Any:  # noqa: ANN401 - nvitop's NA is a str among ints
    from nvitop import NA

    return None if value is NA else value


def _watts(milliwatts: Any) -> float | None:  # noqa: ANN401 - as above
    known = _known(milliwatts)
    return None if known is None else round(known / 1000, 1)
