"""Compatibility: decides whether a release runs on a GPU, by ``tests/contract/compatibility.json``.

The rule is NVIDIA's: the driver against the CUDA major version, compute capability against machine code and PTX.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stack:
    """The CUDA stack of a release; ``driver`` is the minimum, ``architectures`` are ``sm_90``, ``compute_90`` …"""

    cuda: str
    driver: str
    architectures: Sequence[str]


@dataclass(frozen=True)
class GpuFacts:
    """The deciding values of a GPU; ``cuda_driver_version`` is the newest CUDA of its driver. None is unknown."""

    driver_version: str | None
    cuda_driver_version: str | None
    compute_capability: str | None


@dataclass(frozen=True)
class Verdict:
    """The compatibility of a release and a GPU: ``why`` completes "v2.7 …", ``advice`` is a sentence or None.

    ``fit`` is ``works``, ``limited`` (runs with a restriction), ``fails`` or ``unknown``.
    """

    fit: str
    why: str
    advice: str | None = None


def judge(stack: Stack, gpu: GpuFacts) -> Verdict:
    """Return whether ``stack`` runs on ``gpu``."""
    driver, driver_cuda = _parse(gpu.driver_version), _parse(gpu.cuda_driver_version)
    capability = _parse(gpu.compute_capability)
    if driver is not None and driver < (_parse(stack.driver) or ()):
        return Verdict(
            "fails",
            f"needs driver ≥ {stack.driver}, this host has {gpu.driver_version}",
            f"Install NVIDIA driver {stack.driver} or newer on the host.",
        )
    reach = None if capability is None else _reach(capability, stack.architectures)
    if capability is not None and reach is None:
        return Verdict(
            "fails",
            f"has no kernel for compute capability {gpu.compute_capability}, only {' '.join(stack.architectures)}",
            "Choose a release that is built for this GPU.",
        )
    for known, what in (
        (driver, "the driver"),
        (capability, "the compute capability"),
        (driver_cuda, "the driver's CUDA version"),
    ):
        if known is None:
            return Verdict(
                "unknown", f"cannot be judged: {what} is unknown", "Run nvidia-smi on the GPU host."
            )
    is_new_enough = (driver_cuda or ()) >= (_parse(stack.cuda) or ())
    return (
        _judge_ptx(stack, gpu, is_new_enough)
        if reach == "compute"
        else _judge_kernel(stack, gpu, is_new_enough)
    )


def _judge_kernel(stack: Stack, gpu: GpuFacts, is_new_enough: bool) -> Verdict:
    if is_new_enough:
        return Verdict("works", f"runs on compute capability {gpu.compute_capability}")
    return Verdict(
        "limited",
        f"runs by CUDA minor-version compatibility: it has CUDA {stack.cuda}, the driver {gpu.cuda_driver_version}",
        f"What compiles PTX at run time needs a driver for CUDA {stack.cuda}.",
    )


def _judge_ptx(stack: Stack, gpu: GpuFacts, is_new_enough: bool) -> Verdict:
    only = f"has only PTX for compute capability {gpu.compute_capability}"
    if is_new_enough:
        return Verdict(
            "limited", f"{only}: the driver compiles it at first use", "Expect a slow first start."
        )
    return Verdict(
        "fails",
        f"{only}, and the driver's CUDA {gpu.cuda_driver_version} compiles none of CUDA {stack.cuda}",
        f"Install an NVIDIA driver for CUDA {stack.cuda} or newer on the host.",
    )


def _reach(capability: tuple[int, ...], architectures: Iterable[str]) -> str | None:
    """Return the kind of code for ``capability``: ``"sm"`` (machine code), else ``"compute"`` (PTX), or None.

    Machine code runs on its own major version from its minor version on, PTX on all versions from its own on.
    """
    kinds = set()
    for word in architectures:
        kind, _, digits = word.partition("_")
        version = (int(digits[:-1]), int(digits[-1]))
        if version <= capability and (kind == "compute" or version[0] == capability[0]):
            kinds.add(kind)
    return "sm" if "sm" in kinds else "compute" if kinds else None


def _parse(version: str | None) -> tuple[int, ...] | None:
    if version is None or not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})*", version):
        return None
    return tuple(map(int, version.split(".")))
