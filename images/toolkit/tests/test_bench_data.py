"""Data benchmark: finds the bottleneck of data sets with one known bottleneck each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from workbench_toolkit.bench_data.measure import Load, Run
from workbench_toolkit.bench_data.recommendation import Bottleneck, recommend
from workbench_toolkit.cli import main
from workbench_toolkit.cores import usable_cores
from workbench_toolkit.pack.packing import pack

ATTEMPTS = 4
"""Parallel tests can disturb a measurement, which is then repeated."""

SLOW_IN_ONE_WAY = """
import time
import torch

class Slow:
    def __init__(self, get):
        self.get = get
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        return self.get()

def compute():
    until = time.thread_time() + 0.004
    while time.thread_time() < until:
        pass
    return 1

def wait():
    time.sleep(0.02)
    return 1

def processor(): return Slow(compute)
def storage(): return Slow(wait)
def handover(): return Slow(lambda: torch.zeros(1_000_000))
def gpu(): return Slow(lambda: 1)
def few(): return [1, 2, 3]
def stream(): return iter([1, 2, 3])
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_in_one_way.py").write_text(SLOW_IN_ONE_WAY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize("bottleneck", list(Bottleneck))
def test_the_bottleneck_is_found(
    bottleneck: Bottleneck, capsys: pytest.CaptureFixture[str]
) -> None:
    step_ms = "1000" if bottleneck == Bottleneck.GPU else "10"  # the fastest step of a busy machine
    words = [
        "--batch-size",
        "16",
        "--step-ms",
        step_ms,
        "--seconds",
        "1.5",
        "--workers",
        "2",
        "--json",
    ]
    for _ in range(ATTEMPTS):
        assert main(["bench-data", f"slow_in_one_way:{bottleneck}", *words]) == 0
        told = capsys.readouterr()
        report = json.loads(told.out)
        if report["bottleneck"] == bottleneck:
            break
    assert report["bottleneck"] == bottleneck, told.err
    assert report["sentence"].startswith("With 2 workers the GPU would wait ")
    run = report["runs"][0]
    assert 0 <= run["wait_share"] <= 1
    if bottleneck != Bottleneck.GPU:
        # a batch is 16 samples of 4 ms, 20 ms or 4 MB; two workers prepare two batches in parallel
        assert run["wait_share"] > 0.3


def test_the_share_is_what_the_times_say(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--batch-size", "10", "--step-ms", "300", "--seconds", "2", "--workers", "0", "--json"]
    assert main(["bench-data", "slow_in_one_way:storage", *words]) == 0
    run = json.loads(capsys.readouterr().out)["runs"][0]
    # 200 ms of reading, then 300 ms of GPU; a busy machine only makes sleeps longer
    assert 0.25 < run["wait_share"] < 0.75
    assert 0.1 < run["blocked_share"] < 0.6
    assert run["samples_per_second"] < 21


def test_text_over_a_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for index in range(100):
        (folder / str(index)).write_bytes(bytes(1000))
    pack(folder, tmp_path / "out.lmdb", lambda doing, total: lambda files: None)
    words = ["--batch-size", "10", "--seconds", "0.3", "--workers", "0,1"]
    assert main(["bench-data", str(tmp_path / "out.lmdb"), *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["0", "1"]
    assert "a GPU with a step of" in lines[4]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["none.h5"], "is not a file"),
        (["slow_in_one_way:none"], "is not a function"),
        (["no_such_module:make"], "is not a function"),
        (["slow_in_one_way:few"], "less than a batch of 64"),
        (["slow_in_one_way:stream"], "no map-style data set"),
        (["slow_in_one_way:gpu", "--workers", "two"], "give a list of numbers"),
        (["slow_in_one_way:gpu", "--batch-size", "0"], "above 0"),
    ],
)
def test_bad_words(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench-data", *words]) == 2
    assert sentence in capsys.readouterr().err


LOAD = Load(batch_size=10, step_seconds=0.1, seconds=1)


@pytest.mark.parametrize(
    ("runs", "workers", "bottleneck"),
    [
        (
            [Run(0, 50, 0.5, 0.4, 0.1), Run(2, 99, 0.03, 0.4, 0.1), Run(4, 99, 0.0, 0.2, 0.0)],
            2,
            "gpu",
        ),
        (
            [Run(0, 10, 0.9, 0.9, 0.0), Run(4, 40, 0.6, 0.9, 0.1), Run(8, 41, 0.59, 1.0, 0.0)],
            4,
            "processor",
        ),
        ([Run(0, 10, 0.9, 0.0, 0.9), Run(8, 40, 0.6, 0.1, 0.8)], 8, "storage"),
        ([Run(1, 10, 0.9, 0.1, 0.1), Run(2, 10, 0.9, 0.05, 0.05)], 1, "handover"),
        (
            [Run(0, 10, None, 0.9, 0.1), Run(4, 39, None, 0.9, 0.1), Run(8, 40, None, 0.9, 0.1)],
            4,
            "processor",
        ),
    ],
)
def test_the_verdict(runs: list[Run], workers: int, bottleneck: str) -> None:
    recommendation = recommend(runs, LOAD)
    assert (recommendation.workers, recommendation.bottleneck) == (workers, bottleneck)


def test_the_sentence_of_the_share() -> None:
    said = recommend([Run(4, 40, 0.6, 0.9, 0.1)], LOAD).sentence
    assert said.startswith(
        "With 4 workers the GPU would wait 60% of the time: the processor is the bottleneck"
    )


@pytest.mark.parametrize(
    ("limit", "cores"), [("150000 100000", 1), ("10000 100000", 1), ("max 100000", None)]
)
def test_cores_of_a_container(tmp_path: Path, limit: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert usable_cores(tmp_path / "cpu.max") == (cores or usable_cores(tmp_path / "none"))
