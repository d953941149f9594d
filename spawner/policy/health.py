"""Which GPUs are ill, why, and what the people on them are told.

Ill is only what NVML or the driver said is ill: from silence nothing follows. Each MIG instance is judged by what its
GPU says of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from spawner.model import Gpu, GpuHealth, Lease, Quarantine
from spawner.policy.formatting import name_gpu

WHILE_IT_RUNS = "save your work, stop the server and start it again."


@dataclass(frozen=True)
class Illness:
    """What a GPU has; ``reason`` completes "GPU 3 …".

    ``xid_at`` is the agent's time of the Xid behind it; None where it is there for as long as it can be seen.
    """

    gpu_uuid: str
    reason: str
    xid_at: float | None


def diagnose(gpu: Gpu) -> Illness | None:
    """Return what ``gpu`` has, None for one that is well or of which nobody knows."""
    if gpu.health is GpuHealth.LOST:
        return Illness(gpu.uuid, "was lost by its driver", None)
    if gpu.xid is not None and gpu.xid_at is not None:
        return Illness(gpu.uuid, f"failed (Xid {gpu.xid})", gpu.xid_at)
    return None


def find_failures(lease: Lease, quarantines: Iterable[Quarantine]) -> tuple[Quarantine, ...]:
    """Return those of the ``quarantines``, ended or not, that the lease's GPUs got into while it had them."""
    # nobody is granted a GPU in quarantine: a lease that seems to be younger was adopted since
    return tuple(
        quarantine
        for quarantine in quarantines
        if quarantine.gpu_uuid in lease.gpu_uuids
        and (quarantine.returned_at is None or quarantine.since >= (lease.granted_at or 0.0))
    )


def say_trouble(failures: Sequence[Quarantine], gpus: Mapping[str, Gpu]) -> str:
    """Return what the user of a running server is told; ``gpus`` are those that can be named, by UUID."""
    if not failures:
        return f"A GPU of this server failed: {WHILE_IT_RUNS}"
    first, *more = (_say(failure, gpus) for failure in failures)
    name, reason = first
    others = "".join(f", and {name} {reason}" for name, reason in more)
    return f"{name} of this server {reason}{others}: {WHILE_IT_RUNS}"


def say_failed_start(failures: Sequence[Quarantine], gpus: Mapping[str, Gpu]) -> str:
    """Return what the user of a server that was starting on the GPUs of ``failures`` is told."""
    said = ", and ".join(" ".join(_say(failure, gpus)) for failure in failures)
    return f"{said} while your server was starting: start it again, and it gets another."


def _say(failure: Quarantine, gpus: Mapping[str, Gpu]) -> tuple[str, str]:
    gpu = gpus.get(failure.gpu_uuid)
    return ("A GPU" if gpu is None else name_gpu(gpu)), failure.reason
