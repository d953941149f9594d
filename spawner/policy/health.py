"""GPU health: diagnoses failed GPUs and formats the messages for their users.

A GPU has failed only if NVML or the driver reports it; silence proves nothing. A MIG instance inherits the
diagnosis of its GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from spawner.model import Gpu, GpuHealth, Lease, Quarantine
from spawner.policy.formatting import format_gpu_name

RESTART_ADVICE = "save your work, stop the server and start it again."


@dataclass(frozen=True)
class GpuFailure:
    """Failure of one GPU; ``reason`` completes "GPU 3 …".

    ``xid_at`` is the agent's time of the Xid. None means a state, not an event: it lasts as long as NVML reports it.
    """

    gpu_uuid: str
    reason: str
    xid_at: float | None


def diagnose(gpu: Gpu) -> GpuFailure | None:
    """Return the failure of ``gpu``, or None if it is healthy or its health is unknown."""
    if gpu.health is GpuHealth.LOST:
        return GpuFailure(gpu.uuid, "was lost by its driver", None)
    if gpu.xid is not None and gpu.xid_at is not None:
        return GpuFailure(gpu.uuid, f"failed (Xid {gpu.xid})", gpu.xid_at)
    return None


def select_failures(lease: Lease, quarantines: Iterable[Quarantine]) -> tuple[Quarantine, ...]:
    """Return the ``quarantines``, open or released, that began while ``lease`` held the GPU."""
    # no grant takes a GPU in quarantine: a lease that looks younger than an open one was adopted later
    return tuple(
        quarantine
        for quarantine in quarantines
        if quarantine.gpu_uuid in lease.gpu_uuids
        and (quarantine.returned_at is None or quarantine.since >= (lease.granted_at or 0.0))
    )


def format_running_failure(failures: Sequence[Quarantine], gpus: Mapping[str, Gpu]) -> str:
    """Return the message for the user of a running server; ``gpus`` has the known GPUs by UUID."""
    if not failures:
        return f"A GPU of this server failed: {RESTART_ADVICE}"
    first, *more = (_describe(failure, gpus) for failure in failures)
    name, reason = first
    others = "".join(f", and {name} {reason}" for name, reason in more)
    return f"{name} of this server {reason}{others}: {RESTART_ADVICE}"


def format_start_failure(failures: Sequence[Quarantine], gpus: Mapping[str, Gpu]) -> str:
    """Return the message for the user of a server that was starting on the GPUs of ``failures``."""
    causes = ", and ".join(" ".join(_describe(failure, gpus)) for failure in failures)
    return f"{causes} while your server was starting: start it again to get another GPU."


def _describe(failure: Quarantine, gpus: Mapping[str, Gpu]) -> tuple[str, str]:
    gpu = gpus.get(failure.gpu_uuid)
    return ("A GPU" if gpu is None else format_gpu_name(gpu)), failure.reason
