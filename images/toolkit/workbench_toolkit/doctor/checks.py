"""Checks: the single checks of ``wb doctor`` inside a container.

An unreadable value is ``unknown``, never ``ok``; a simulated GPU never computes.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from workbench_toolkit.doctor.gpus import GpuProbe, ProbedGpu
from workbench_toolkit.doctor.release import Manifest
from workbench_toolkit.doctor.report import Check

MIN_SHM_BYTES = 2**30
"""Docker's default is 64 MiB, too little for the batches of a few DataLoader workers."""


def check_all(manifest: Manifest | None, probe: GpuProbe) -> Iterator[Check]:
    """Run all checks, quick ones first."""
    yield check_release(manifest)
    yield check_gpus(probe)
    yield check_device_nodes(probe.gpus, Path("/dev"))
    yield check_shm(Path("/dev/shm"))
    try:
        import torch
    except ImportError as error:
        yield Check("PyTorch", "fails", f"cannot be imported: {error}", "Pull the image again.")
        return
    declared = manifest or Manifest()
    architectures = " ".join(declared.architectures) if declared.architectures else None
    yield compare("PyTorch", torch.__version__.partition("+")[0], declared.torch)
    yield compare("CUDA", torch.version.cuda, declared.cuda)
    yield compare("architectures", compiled_architectures(torch), architectures)
    yield compare("cuDNN", cudnn_version(torch), declared.cudnn)
    yield compare("NCCL", nccl_version(), declared.nccl)
    yield check_computing(torch, probe.gpus)


def check_release(manifest: Manifest | None) -> Check:
    """Report the release and the flavor."""
    if manifest is None or manifest.stack is None:
        found = (
            "there is no manifest"
            if manifest is None
            else "the manifest lacks cuda, driver or architectures"
        )
        return Check("release", "unknown", found, "Use one of the workbench's images.")
    return Check("release", "ok", f"{manifest.release} ({manifest.flavor})")


def compare(name: str, loaded: str | None, declared: str | None) -> Check:
    """Compare a loaded version with the declared one."""
    if loaded is None:
        return Check(name, "unknown", "could not be loaded", "Pull the image again.")
    if declared is None:
        return Check(name, "unknown", f"{loaded}; the manifest has no value")
    if loaded != declared:
        advice = "Uninstall the package that replaced it, or pull the image again."
        return Check(name, "fails", f"{loaded} is loaded, {declared} is declared", advice)
    return Check(name, "ok", loaded)


def compiled_architectures(torch: ModuleType) -> str | None:
    """Return the architectures of PyTorch's kernels; the public function returns none without a GPU."""
    flags = getattr(torch._C, "_cuda_getArchFlags", None)
    return None if flags is None else str(flags())


def cudnn_version(torch: ModuleType) -> str | None:
    """Return the version of the loaded cuDNN."""
    number = torch.backends.cudnn.version()
    return None if number is None else f"{number // 10_000}.{number // 100 % 100}.{number % 100}"


def nccl_version() -> str | None:
    """Return the version of the loaded NCCL; PyTorch only has the version at its build."""
    number = ctypes.c_int()
    try:
        ctypes.CDLL("libnccl.so.2").ncclGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return None
    return f"{number.value // 10_000}.{number.value // 100 % 100}.{number.value % 100}"


def check_gpus(probe: GpuProbe) -> Check:
    """Report the number of GPUs."""
    if probe.error:
        return Check(
            "GPUs", "unknown", probe.error, "Run scripts/doctor on the host, or ask an admin."
        )
    if not probe.gpus:
        return Check("GPUs", "note", "none: this container computes on the CPU")
    if all(gpu.is_simulated for gpu in probe.gpus):
        return Check("GPUs", "note", f"{len(probe.gpus)} SIMULATED: they compute nothing")
    return Check("GPUs", "ok", str(len(probe.gpus)))


def check_device_nodes(gpus: Sequence[ProbedGpu], dev: Path) -> Check:
    """Check that ``dev`` has the device nodes of the GPUs."""
    real = [gpu for gpu in gpus if not gpu.is_simulated]
    if not real:
        return Check("device nodes", "ok", "none are needed")
    missing = [name for name in ("nvidiactl", "nvidia-uvm") if not (dev / name).exists()]
    nodes = len(list(dev.glob("nvidia[0-9]*")))
    if nodes < len(real):
        missing.append(f"{len(real) - nodes} of nvidia0, nvidia1, …")
    if missing:
        advice = (
            "Run scripts/doctor on the host: the CDI specification or a kernel module is missing."
        )
        return Check("device nodes", "fails", f"missing in /dev: {', '.join(missing)}", advice)
    return Check("device nodes", "ok", f"{nodes} GPUs, nvidiactl, nvidia-uvm")


def check_shm(folder: Path) -> Check:
    """Check that DataLoader workers have enough shared memory for their batches."""
    try:
        about = os.statvfs(folder)
    except OSError as error:
        return Check("shared memory", "unknown", f"{folder}: {error.strerror}")
    size = about.f_blocks * about.f_frsize
    found = f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
    if size < MIN_SHM_BYTES:
        advice = (
            "DataLoader workers may die of a bus error: start the container with --shm-size=8g."
        )
        return Check("shared memory", "note", found, advice)
    return Check("shared memory", "ok", found)


def check_computing(torch: ModuleType, gpus: Sequence[ProbedGpu]) -> Check:
    """Multiply two small matrices on every real GPU and compare with the CPU."""
    if not [gpu for gpu in gpus if not gpu.is_simulated]:
        found = (
            "not tested: simulated GPUs compute nothing" if gpus else "not tested: there is no GPU"
        )
        return Check("computing", "ok", found)
    try:
        torch.cuda.init()
        wrong = [
            index for index in range(torch.cuda.device_count()) if not _multiplies(torch, index)
        ]
    except RuntimeError as error:
        advice = "Run scripts/doctor on the host."
        return Check("computing", "fails", str(error).strip().splitlines()[0], advice)
    if wrong:
        advice = "Tell an admin: a GPU with wrong results has to be drained."
        return Check(
            "computing", "fails", f"wrong results on GPU {', '.join(map(str, wrong))}", advice
        )
    return Check("computing", "ok", f"correct on {torch.cuda.device_count()} GPUs")


def _multiplies(torch: ModuleType, index: int) -> bool:
    """Return whether small integers, exact in every precision, multiply as on the CPU."""
    matrix = torch.arange(64, dtype=torch.float32).reshape(8, 8) % 5
    return bool(
        torch.equal(
            (matrix.to(f"cuda:{index}") @ matrix.to(f"cuda:{index}")).cpu(), matrix @ matrix
        )
    )
