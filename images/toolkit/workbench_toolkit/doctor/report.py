"""Doctor report: checks, GPUs with verdicts, and the exit code for them.

``tests/contract/doctor-report.json`` is a golden sample of the JSON; the host's doctor writes the same shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workbench_toolkit.doctor.compatibility import Verdict
from workbench_toolkit.doctor.gpus import ProbedGpu

SCHEMA = 1


@dataclass(frozen=True)
class Check:
    """One check; ``state`` is ``ok``, ``note`` (works with a restriction), ``fails`` or ``unknown``.

    ``found`` is the observation; ``advice`` is the next step as a sentence, or None.
    """

    name: str
    state: str
    found: str
    advice: str | None = None


@dataclass(frozen=True)
class JudgedGpu:
    """A GPU and the verdict on each release."""

    gpu: ProbedGpu
    verdicts: Mapping[str, Verdict]


def get_exit_code(checks: Sequence[Check], gpus: Sequence[JudgedGpu]) -> int:
    """Return 1 for a failure, else 2 for an unknown state, else 0."""
    states = {check.state for check in checks}
    states |= {verdict.fit for gpu in gpus for verdict in gpu.verdicts.values()}
    return 1 if "fails" in states else 2 if "unknown" in states else 0


def build_json(checks: Sequence[Check], gpus: Sequence[JudgedGpu]) -> dict[str, Any]:
    """Build the report as JSON."""
    return {
        "schema": SCHEMA,
        "place": "container",
        "simulated": any(judged.gpu.is_simulated for judged in gpus),
        "exit_code": get_exit_code(checks, gpus),
        "checks": [asdict(check) for check in checks],
        "gpus": [_build_gpu(judged) for judged in gpus],
    }


def _build_gpu(judged: JudgedGpu) -> dict[str, Any]:
    gpu = judged.gpu
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "compute_capability": gpu.facts.compute_capability,
        "cuda_cores": gpu.cuda_cores,
        "memory_total_bytes": gpu.memory_total_bytes,
        "driver_version": gpu.facts.driver_version,
        "cuda_driver_version": gpu.facts.cuda_driver_version,
        "simulated": gpu.is_simulated,
        "verdicts": {name: asdict(verdict) for name, verdict in judged.verdicts.items()},
    }


def build_text(checks: Sequence[Check], gpus: Sequence[JudgedGpu]) -> str:
    """Build the report as text."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.state:<8} {check.name:<{width}}  {check.found}")
        if check.advice:
            lines.append(f"{'':<{8 + width}}   → {check.advice}")
    if gpus:
        lines += ["", *_build_table(gpus)]
    for judged in gpus:
        for name, verdict in judged.verdicts.items():
            lines.append(f"{verdict.fit:<8} GPU {judged.gpu.index}: {name} {verdict.why}")
            if verdict.advice:
                lines.append(f"{'':<8} → {verdict.advice}")
    return "\n".join(lines)


def _build_table(gpus: Sequence[JudgedGpu]) -> list[str]:
    rows = [("GPU", "name", "compute capability", "CUDA cores", "memory", "driver", "its CUDA")]
    for judged in gpus:
        gpu, facts = judged.gpu, judged.gpu.facts
        cores, memory = gpu.cuda_cores, gpu.memory_total_bytes
        rows.append(
            (
                str(gpu.index),
                gpu.name or "unknown",
                facts.compute_capability or "unknown",
                "unknown" if cores is None else f"{cores:,}",
                "unknown" if memory is None else f"{memory / 2**30:.0f} GiB",
                facts.driver_version or "unknown",
                facts.cuda_driver_version or "unknown",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
