"""Asks NVML one question, through nvitop.

What NVML does not know is ``None``; only that a GPU is lost is an error.
"""

from __future__ import annotations

from typing import Any, TypeVar

from nvitop import Device, libnvml

_T = TypeVar("_T")

# nvitop prints a page of advice where there is no driver; the report's one sentence replaces it.
libnvml.LOGGER.disabled = True


def value_or_none(value: _T) -> _T | None:
    """Return what nvitop says, with its ``NA`` as ``None``."""
    return value if libnvml.nvmlCheckReturn(value) else None


def query(device: Device, call: str, *arguments: object) -> Any:  # noqa: ANN401 one type per call
    """Return NVML's answer about a device; ``None`` when it has none.

    Raises ``NVMLError_GpuIsLost``. nvitop's own ``Device.memory_info`` answers with the host's memory
    when NVML has no answer.
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
