"""Whether each release runs on the workbench's GPUs, in words for the spawn form.

The judgement is ``policy.compatibility``'s, and so is the sentence of a release that runs on none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spawner.catalog import Release
from spawner.model import Gpu, Options
from spawner.policy.compatibility import Fit, Verdict, judge, refuse_misfit


@dataclass(frozen=True)
class ReleaseChoice:
    """One release; ``verdicts`` are what is to be said of it, such as "runs on every GPU here".

    ``refusal`` is the sentence that meets whoever asks for GPUs with it, None where some might run it.
    """

    name: str
    title: str
    verdicts: tuple[str, ...]
    refusal: str | None


def judge_releases(
    releases: Mapping[str, Release], gpus: Sequence[Gpu]
) -> tuple[ReleaseChoice, ...]:
    """Return every release with what can be said of it on ``gpus``; nothing where there are none."""
    return tuple(_judge_release(release, gpus) for release in releases.values())


def _judge_release(release: Release, gpus: Sequence[Gpu]) -> ReleaseChoice:
    whose: dict[Verdict, list[int]] = {}  # GPUs by index
    for gpu in gpus:
        indices = whose.setdefault(judge(release, gpu), [])
        if gpu.index not in indices:
            indices.append(gpu.index)
    refusals = [
        refuse_misfit(Options(release.name, 1, mig_profile=profile), release, gpus)
        for profile in dict.fromkeys(gpu.mig_profile for gpu in gpus)
    ]
    refusal = refusals[0].message if refusals and refusals[0] and all(refusals) else None
    return ReleaseChoice(release.name, release.title, tuple(_say(whose)), refusal)


def _say(whose: Mapping[Verdict, Sequence[int]]) -> list[str]:
    if whose and all(verdict.fit is Fit.WORKS for verdict in whose):
        return ["runs on every GPU here"]
    if len(whose) == 1:
        return [verdict.why for verdict in whose]
    return [
        f"on {' and '.join(f'GPU {index}' for index in indices)}: {verdict.why}"
        for verdict, indices in whose.items()
    ]
