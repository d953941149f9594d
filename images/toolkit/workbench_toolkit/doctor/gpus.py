"""GPU probe: reads this container's GPUs from NVML through nvitop.

A missing value is None. CUDA is not used, because a failed GPU can block it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workbench_toolkit.doctor.compatibility import GpuFacts

SIMULATED_SUFFIX = "(simulated)"
"""The end of a simulated GPU's name in NVML."""


@dataclass(frozen=True)
class ProbedGpu:
    """One GPU; ``index`` is NVML's."""

    index: int
    uuid: str | None
    name: str | None
    memory_total_bytes: int | None
    cuda_cores: int | None
    facts: GpuFacts

    @property
    def is_simulated(self) -> bool:
        """Whether the simulation library made this GPU; its name ends with ``SIMULATED_SUFFIX``."""
        return self.name is not None and self.name.endswith(SIMULATED_SUFFIX)


@dataclass(frozen=True)
class GpuProbe:
    """The GPUs in NVML's order; ``error`` is the reason of an unsuccessful probe, else None."""

    gpus: tuple[ProbedGpu, ...] = ()
    error: str | None = None


def probe_gpus() -> GpuProbe:
    """Return the GPUs of this container; without a driver it has none, which is no error."""
    try:
        from nvitop import Device, libnvml
    except ImportError:
        return GpuProbe(error="nvitop, which reads the GPUs, is not in this image")
    logging.getLogger(libnvml.__name__).setLevel(logging.CRITICAL + 1)  # no long explanations
    try:
        libnvml.nvmlInit()
        devices = Device.all()
    except libnvml.NVMLError_LibraryNotFound:
        return GpuProbe()
    except libnvml.NVMLError as error:
        return GpuProbe(error=f"NVML does not work: {error}")
    return GpuProbe(tuple(_read(device, libnvml) for device in devices))


def _read(device: Any, libnvml: Any) -> ProbedGpu:  # noqa: ANN401
    def known(value: Any) -> Any:  # noqa: ANN401
        return None if value is None or value == "N/A" else value

    def query(function: Callable[[], Any]) -> Any:  # noqa: ANN401
        try:
            return known(function())
        except libnvml.NVMLError:
            return None

    capability = query(device.cuda_compute_capability)
    return ProbedGpu(
        index=device.index if isinstance(device.index, int) else device.index[0],
        uuid=query(device.uuid),
        name=query(device.name),
        memory_total_bytes=query(device.memory_total),
        cuda_cores=query(lambda: libnvml.nvmlQuery("nvmlDeviceGetNumGpuCores", device.handle)),
        facts=GpuFacts(
            driver_version=query(device.driver_version),
            cuda_driver_version=query(device.cuda_driver_version),
            compute_capability=capability and "{}.{}".format(*capability),
        ),
    )
