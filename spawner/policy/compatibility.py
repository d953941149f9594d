"""Compatibility: decides whether a release runs on a GPU, by driver version and compute capability.

The rules are NVIDIA's: docs.nvidia.com/deploy/cuda-compatibility, and "Binary and PTX Compatibility" in the CUDA
programming guide. ``tests/contract/compatibility.json`` keeps every implementation of them in agreement.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from spawner.model import Gpu, Options, Reason, Refused
from spawner.policy.formatting import format_gpu_count


class Fit(StrEnum):
    """Compatibility of a release with a GPU; ``LIMITED`` runs with a restriction."""

    WORKS = "works"
    LIMITED = "limited"
    FAILS = "fails"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """Result of a check; ``why`` completes "v2.7 …", ``advice`` is a sentence or None if no action helps."""

    fit: Fit
    why: str
    advice: str | None = None


class Stack(Protocol):
    """Software stack of a release: CUDA version, minimum driver, and build targets such as ``sm_90``."""

    @property
    def cuda(self) -> str: ...  # noqa: D102
    @property
    def driver(self) -> str: ...  # noqa: D102
    @property
    def architectures(self) -> Sequence[str]: ...  # noqa: D102


def judge(stack: Stack, gpu: Gpu) -> Verdict:
    """Return whether ``stack`` runs on ``gpu`` with the driver of the GPU's host."""
    driver, driver_cuda = _parse(gpu.driver_version), _parse(gpu.cuda_driver_version)
    capability = _parse(gpu.compute_capability)
    needed, cuda = _parse(stack.driver) or (), _parse(stack.cuda) or ()
    if driver is not None and driver < needed:
        return Verdict(
            Fit.FAILS,
            f"needs driver ≥ {stack.driver}, this host has {gpu.driver_version}",
            f"Install NVIDIA driver {stack.driver} or newer on the host.",
        )
    how = None if capability is None else _reach(capability, stack.architectures)
    if capability is not None and how is None:
        return Verdict(
            Fit.FAILS,
            f"has no kernel for compute capability {gpu.compute_capability}, only {' '.join(stack.architectures)}",
            "Choose a release that is built for this GPU.",
        )
    if driver is None:
        return _unknown("the driver")
    if capability is None:
        return _unknown("the compute capability")
    if driver_cuda is None:
        return _unknown("the driver's CUDA version")
    if how == "compute":
        return _judge_ptx(stack, gpu, is_new_enough=driver_cuda >= cuda)
    if driver_cuda < cuda:
        return Verdict(
            Fit.LIMITED,
            f"runs by CUDA minor-version compatibility: it has CUDA {stack.cuda}, the driver {gpu.cuda_driver_version}",
            f"What compiles PTX at run time needs a driver for CUDA {stack.cuda}.",
        )
    return Verdict(Fit.WORKS, f"runs on compute capability {gpu.compute_capability}")


def _unknown(what: str) -> Verdict:
    return Verdict(
        Fit.UNKNOWN, f"cannot be judged: {what} is unknown", "Run nvidia-smi on the GPU host."
    )


def _judge_ptx(stack: Stack, gpu: Gpu, *, is_new_enough: bool) -> Verdict:
    """Return the verdict for a GPU with PTX only; CUDA minor-version compatibility does not cover PTX."""
    if not is_new_enough:
        return Verdict(
            Fit.FAILS,
            f"has only PTX for compute capability {gpu.compute_capability}, and the driver's CUDA "
            f"{gpu.cuda_driver_version} compiles none of CUDA {stack.cuda}",
            f"Install an NVIDIA driver for CUDA {stack.cuda} or newer on the host.",
        )
    return Verdict(
        Fit.LIMITED,
        f"has only PTX for compute capability {gpu.compute_capability}: the driver compiles it at first use",
        "Expect a slow first start.",
    )


def _reach(capability: tuple[int, ...], architectures: Iterable[str]) -> str | None:
    """Return ``"sm"`` (machine code) or ``"compute"`` (PTX), the best code for ``capability``, or None.

    Machine code runs on its own major version, from its minor version up. PTX runs on every version from its own up.
    """
    how = None
    for word in architectures:
        kind, _, digits = word.partition("_")
        built = (int(digits[:-1]), int(digits[-1]))
        if kind == "sm" and built[0] == capability[0] and built <= capability:
            return "sm"
        if kind == "compute" and built <= capability:
            how = "compute"
    return how


def _parse(version: str | None) -> tuple[int, ...] | None:
    if version is None or not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})*", version):
        return None
    return tuple(map(int, version.split(".")))


def refuse_incompatible(options: Options, stack: Stack, gpus: Iterable[Gpu]) -> Refused | None:
    """Return the refusal if too few GPUs can run ``stack``, the release of ``options``; None if enough may run it."""
    verdicts = [judge(stack, gpu) for gpu in gpus if gpu.mig_profile == options.mig_profile]
    failing = [verdict for verdict in verdicts if verdict.fit is Fit.FAILS]
    fitting = len(verdicts) - len(failing)
    if not failing or not fitting < options.gpus <= len(verdicts):
        return None
    asks = (
        f"ask for {format_gpu_count(fitting, options.mig_profile)}" if fitting else "ask for 0 GPUs"
    )
    here = (
        f" on {len(failing)} of {format_gpu_count(len(verdicts), options.mig_profile)}"
        if fitting
        else ""
    )
    return Refused(
        Reason.INCOMPATIBLE,
        f"{options.release} {failing[0].why}{here}: choose another release, or {asks}.",
    )
