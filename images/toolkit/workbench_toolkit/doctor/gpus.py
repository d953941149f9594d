"""Asks NVML, through nvitop, for the GPUs that this container was given.

What NVML does not say is None; nothing is asked of CUDA, so that an ill GPU cannot hang it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workbench_toolkit.doctor.compatibility import GpuFacts

SIMULATED_SUFFIX = "(simulated)"
"""NVML's name of a simulated GPU ends in it."""


@dataclass(frozen=True)
class SeenGpu:
    """One GPU; ``index`` is NVML's."""

    index: int
    uuid: str | None
    name: str | None
    memory_total_bytes: int | None
    cuda_cores: int | None
    facts: GpuFacts

    @property
    def is_simulated(self) -> bool:
        """True for a GPU that computes nothing; its name says so."""
        return self.name is not None and self.name.endswith(SIMULATED_SUFFIX)


@dataclass(frozen=True)
class Seen:
    """Every GPU in NVML's order; ``error`` says why they are not known, None where they are."""

    gpus: tuple[SeenGpu, ...] = ()
    error: str | None = None


def look() -> Seen:
    """Return the GPUs of this container; none where it has no driver, which is no error."""
    try:
        from nvitop import Device, libnvml
    except ImportError:
        return Seen(error="nvitop, which asks for the GPUs, is not in this image")
    logging.getLogger(libnvml.__name__).setLevel(logging.CRITICAL + 1)  # it explains at length
    try:
        libnvml.nvmlInit()
        devices = Device.all()
    except libnvml.NVMLError_LibraryNotFound:
        return Seen()
    except libnvml.NVMLError as error:
        return Seen(error=f"NVML does not work: {error}")
    return Seen(tuple(_read(device, libnvml) for device in devices))


def _read(device: Any, libnvml: Any) -> SeenGpu:  # noqa: ANN401
    def known(value: Any) -> Any:  # noqa: ANN401
        return None if value is None or value == "N/A" else value

    def ask(question: Callable[[], Any]) -> Any:  # noqa: ANN401
        try:
            return known(question())
        except libnvml.NVMLError:
            return None

    capability = ask(device.cuda_compute_capability)
    return SeenGpu(
        index=device.index if isinstance(device.index, int) else device.index[0],
        uuid=ask(device.uuid),
        name=ask(device.name),
        memory_total_bytes=ask(device.memory_total),
        cuda_cores=ask(lambda: libnvml.nvmlQuery("nvmlDeviceGetNumGpuCores", device.handle)),
        facts=GpuFacts(
            driver_version=ask(device.driver_version),
            cuda_driver_version=ask(device.cuda_driver_version),
            compute_capability=capability and "{}.{}".format(*capability),
        ),
    )
