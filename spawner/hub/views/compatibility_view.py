"""Compatibility view: formats for the spawn form whether each release runs on the workbench's GPUs.

``policy.compatibility`` decides, and it also writes the sentence for a release that runs on none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spawner.catalog import Release
from spawner.model import Gpu, Options
from spawner.policy.compatibility import Fit, Verdict, judge, refuse_incompatible


@dataclass(frozen=True)
class ReleaseChoice:
    """One release; ``notes`` complete its name, such as "runs on every GPU here".

    ``refusal`` is the sentence for a request that combines this release with GPUs, None where a GPU may run it.
    """

    name: str
    title: str
    notes: tuple[str, ...]
    refusal: str | None


def build_compatibility_view(
    releases: Mapping[str, Release], gpus: Sequence[Gpu]
) -> tuple[ReleaseChoice, ...]:
    """Return every release with its notes for ``gpus``; without GPUs there are no notes."""
    return tuple(_build_release_choice(release, gpus) for release in releases.values())


def _build_release_choice(release: Release, gpus: Sequence[Gpu]) -> ReleaseChoice:
    gpus_by_verdict: dict[Verdict, list[int]] = {}  # indices of the GPUs
    for gpu in gpus:
        indices = gpus_by_verdict.setdefault(judge(release, gpu), [])
        if gpu.index not in indices:
            indices.append(gpu.index)
    refusals = [
        refuse_incompatible(Options(release.name, 1, mig_profile=profile), release, gpus)
        for profile in dict.fromkeys(gpu.mig_profile for gpu in gpus)
    ]
    refusal = refusals[0].message if refusals and refusals[0] and all(refusals) else None
    return ReleaseChoice(
        release.name, release.title, tuple(_format_verdicts(gpus_by_verdict)), refusal
    )


def _format_verdicts(gpus_by_verdict: Mapping[Verdict, Sequence[int]]) -> list[str]:
    if gpus_by_verdict and all(verdict.fit is Fit.WORKS for verdict in gpus_by_verdict):
        return ["runs on every GPU here"]
    if len(gpus_by_verdict) == 1:
        return [verdict.why for verdict in gpus_by_verdict]
    return [
        f"on {' and '.join(f'GPU {index}' for index in indices)}: "
        f"{'runs' if verdict.fit is Fit.WORKS else verdict.why}"
        for verdict, indices in gpus_by_verdict.items()
    ]
