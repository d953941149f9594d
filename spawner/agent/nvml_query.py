"""NVML query: performs one NVML call through nvitop.

A missing value is ``None``; the only error is a lost GPU.
"""

from __future__ import annotations

from typing import Any, TypeVar

from nvitop import Device, libnvml

_T = TypeVar("_T")

# without a driver nvitop prints a page of advice; the report carries one sentence instead
libnvml.LOGGER.disabled = True


def value_or_none(value: _T) -> _T | None:
    """Return nvitop's value, with ``None`` for its ``NA``."""
    return value if libnvml.nvmlCheckReturn(value) else None


def query(device: Device, call: str, *arguments: object) -> Any:  # noqa: ANN401 one type per call
    """Return NVML's answer about a device, or ``None`` without an answer.

    Raises ``NVMLError_GpuIsLost``. Prefer it to nvitop's own methods: ``Device.memory_info`` falls back to the
    host's memory when NVML has no answer.
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
