"""What ``wb doctor`` looks at inside the container, one function each.

What cannot be seen is ``unknown``, never ``ok``; a simulated GPU is never asked to compute.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from workbench_toolkit.doctor.gpus import Seen, SeenGpu
from workbench_toolkit.doctor.release import Manifest
from workbench_toolkit.doctor.report import Check

LEAST_SHM_BYTES = 2**30
"""Docker's own default is 64 MiB, which the batches of a few DataLoader workers fill."""


def check_all(manifest: Manifest | None, seen: Seen) -> Iterator[Check]:
    """Look at everything, the quick things first."""
    yield check_release(manifest)
    yield check_gpus(seen)
    yield check_device_nodes(seen.gpus, Path("/dev"))
    yield check_shm(Path("/dev/shm"))
    try:
        import torch
    except ImportError as error:
        yield Check("PyTorch", "fails", f"cannot be imported: {error}", "Pull the image again.")
        return
    said = manifest or Manifest()
    yield compare("PyTorch", torch.__version__.partition("+")[0], said.torch)
    yield compare("CUDA", torch.version.cuda, said.cuda)
    declared = " ".join(said.architectures) if said.architectures else None
    yield compare("architectures", built_for(torch), declared)
    yield compare("cuDNN", cudnn_version(torch), said.cudnn)
    yield compare("NCCL", nccl_version(), said.nccl)
    yield check_computing(torch, seen.gpus)


def check_release(manifest: Manifest | None) -> Check:
    """Say which release and flavor this is."""
    if manifest is None or manifest.stack is None:
        found = (
            "there is no manifest"
            if manifest is None
            else "the manifest does not say where it runs"
        )
        return Check("release", "unknown", found, "Use one of the workbench's images.")
    return Check("release", "ok", f"{manifest.release} ({manifest.flavor})")


def compare(name: str, loaded: str | None, declared: str | None) -> Check:
    """Compare what was loaded with what the manifest declares."""
    if loaded is None:
        return Check(name, "unknown", "could not be loaded", "Pull the image again.")
    if declared is None:
        return Check(name, "unknown", f"{loaded}; the manifest declares none")
    if loaded != declared:
        advice = "Undo what was installed over it, or pull the image again."
        return Check(name, "fails", f"{loaded} is loaded, {declared} is declared", advice)
    return Check(name, "ok", loaded)


def built_for(torch: ModuleType) -> str | None:
    """Return what PyTorch's kernels are compiled for; its public function is silent where there is no GPU."""
    flags = getattr(torch._C, "_cuda_getArchFlags", None)
    return None if flags is None else flags()


def cudnn_version(torch: ModuleType) -> str | None:
    """Return the version that the loaded cuDNN itself tells."""
    number = torch.backends.cudnn.version()
    return None if number is None else f"{number // 10_000}.{number // 100 % 100}.{number % 100}"


def nccl_version() -> str | None:
    """Return the version that the loaded NCCL itself tells; PyTorch tells the one it was built with."""
    number = ctypes.c_int()
    try:
        ctypes.CDLL("libnccl.so.2").ncclGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return None
    return f"{number.value // 10_000}.{number.value // 100 % 100}.{number.value % 100}"


def check_gpus(seen: Seen) -> Check:
    """Say how many GPUs this container has."""
    if seen.error:
        return Check(
            "GPUs", "unknown", seen.error, "See what `wb doctor` says outside, or ask an admin."
        )
    if not seen.gpus:
        return Check("GPUs", "note", "none: this container computes on the CPU")
    if all(gpu.is_simulated for gpu in seen.gpus):
        return Check("GPUs", "note", f"{len(seen.gpus)} SIMULATED: they compute nothing")
    return Check("GPUs", "ok", str(len(seen.gpus)))


def check_device_nodes(gpus: Sequence[SeenGpu], dev: Path) -> Check:
    """See whether CUDA finds the device nodes of the GPUs."""
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
    """See whether DataLoader workers have shared memory to hand their batches over."""
    try:
        about = os.statvfs(folder)
    except OSError as error:
        return Check("shared memory", "unknown", f"{folder}: {error.strerror}")
    size = about.f_blocks * about.f_frsize
    found = f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
    if size < LEAST_SHM_BYTES:
        advice = (
            "DataLoader workers may die of a bus error: start the container with --shm-size=8g."
        )
        return Check("shared memory", "note", found, advice)
    return Check("shared memory", "ok", found)


def check_computing(torch: ModuleType, gpus: Sequence[SeenGpu]) -> Check:
    """Let every real GPU multiply two small matrices and compare with the CPU."""
    if not [gpu for gpu in gpus if not gpu.is_simulated]:
        found = (
            "not tried: simulated GPUs compute nothing" if gpus else "not tried: there is no GPU"
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
        advice = "Tell an admin: a GPU that computes wrongly must be drained."
        return Check(
            "computing", "fails", f"wrong results on GPU {', '.join(map(str, wrong))}", advice
        )
    return Check("computing", "ok", f"right on {torch.cuda.device_count()} GPUs")


def _multiplies(torch: ModuleType, index: int) -> bool:
    """Whether small whole numbers, exact in every precision, multiply as on the CPU."""
    matrix = torch.arange(64, dtype=torch.float32).reshape(8, 8) % 5
    return bool(
        torch.equal(
            (matrix.to(f"cuda:{index}") @ matrix.to(f"cuda:{index}")).cpu(), matrix @ matrix
        )
    )
