"""Whether a release runs on a GPU: the golden table, and what is refused because of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from spawner.catalog import Release
from spawner.model import Gpu, Options, Reason
from spawner.policy.compatibility import Fit, judge, refuse_incompatible
from testing.factories import make_release
from testing.paths import CONTRACT

CASES = json.loads((CONTRACT / "compatibility.json").read_text())


def build_release(**changes: Any) -> Release:
    return make_release(**{k: tuple(v) if k == "architectures" else v for k, v in changes.items()})


def build_gpu(index: int = 0, **changes: Any) -> Gpu:
    facts = {**CASES[0]["gpu"], **changes}
    return Gpu(f"GPU-{index}", index, "NVIDIA RTX 3060", None, **facts)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_the_table_is_kept(case: dict[str, Any]) -> None:
    verdict = judge(build_release(**case["release"]), build_gpu(**case["gpu"]))
    assert asdict(verdict) == case["verdict"]


def test_the_table_holds_every_verdict() -> None:
    assert {case["verdict"]["fit"] for case in CASES} == set(Fit)


OLD = {"driver_version": "470.256.02"}
NEW = {"compute_capability": "12.0"}
NO_KERNEL = (
    "v2.7 has no kernel for compute capability 12.0, only sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"
)


@pytest.mark.parametrize(
    ("gpus", "asked", "sentence"),
    [
        ([{}, {}], 2, None),
        ([OLD, OLD], 0, None),
        (
            [OLD, OLD],
            1,
            "v2.7 needs driver ≥ 525.60.13, this host has 470.256.02: choose another release, or "
            "ask for 0 GPUs.",
        ),
        ([NEW, {}], 1, None),
        ([NEW, {}], 2, f"{NO_KERNEL} on 1 of 2 GPUs: choose another release, or ask for 1 GPU."),
        ([OLD], 2, None),  # admission says that there are not so many
        ([], 1, None),
        ([{"compute_capability": None}], 1, None),
        ([{"driver_version": "535.161.08", "cuda_driver_version": "12.2"}], 1, None),
    ],
)
def test_what_can_run_on_no_gpu_is_refused(
    gpus: list[dict[str, str]], asked: int, sentence: str | None
) -> None:
    host = [build_gpu(index, **changes) for index, changes in enumerate(gpus)]
    refused = refuse_incompatible(Options("v2.7", asked), build_release(), host)
    assert (refused and refused.message) == sentence
    assert refused is None or refused.reason is Reason.INCOMPATIBLE


def test_only_the_kind_requested_counts() -> None:
    host = [build_gpu(0, **NEW), build_gpu(1, mig_profile="1g.10gb", mig_index=0)]
    options = Options("v2.7", 1, mig_profile="1g.10gb")
    assert refuse_incompatible(options, build_release(), host) is None
    assert refuse_incompatible(Options("v2.7", 1), build_release(), host) is not None
