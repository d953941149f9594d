"""``wb doctor``: golden verdicts, single checks, exit codes and the golden report."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from workbench_toolkit.cli import main
from workbench_toolkit.doctor import checks, gpus
from workbench_toolkit.doctor.compatibility import GpuFacts, Stack, Verdict, judge
from workbench_toolkit.doctor.gpus import GpuProbe, ProbedGpu
from workbench_toolkit.doctor.release import Manifest, read_manifest
from workbench_toolkit.doctor.report import (
    Check,
    JudgedGpu,
    build_json,
    build_text,
    get_exit_code,
)
from workbench_toolkit.errors import ToolError

CONTRACT = Path(__file__).parents[3] / "tests/contract"
CASES = json.loads((CONTRACT / "compatibility.json").read_text())
GOLDEN = json.loads((CONTRACT / "doctor-report.json").read_text())
A100 = ProbedGpu(
    index=0,
    uuid="GPU-51a0c0de-0000-4000-8000-000000000000",
    name="NVIDIA A100-SXM4-80GB",
    memory_total_bytes=80 * 2**30,
    cuda_cores=6912,
    facts=GpuFacts("535.161.08", None, "8.0"),
)
SIMULATED = replace(A100, name="NVIDIA A100-SXM4-80GB (simulated)")
DECLARED = {
    "release": "v2.7",
    "flavor": "lab",
    "torch": "2.7.1",
    "cuda": "12.6",
    "cudnn": "9.5.1",
    "nccl": "2.26.2",
    "driver": "525.60.13",
    "architectures": ["sm_80", "sm_90"],
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_the_table_is_kept(case: dict[str, Any]) -> None:
    assert asdict(judge(Stack(**case["release"]), GpuFacts(**case["gpu"]))) == case["verdict"]


def test_the_report_is_the_one_that_others_read() -> None:
    found = [
        Check("cuDNN", "ok", "9.5.1"),
        checks.compare("NCCL", "2.25.1", "2.26.2"),
    ]
    stack = Stack("12.6", "525.60.13", ("sm_80",))
    judged = [JudgedGpu(SIMULATED, {"v2.7": judge(stack, SIMULATED.facts)})]
    assert build_json(found, judged) == GOLDEN


@pytest.mark.parametrize(
    ("states", "fits", "code"),
    [
        (["ok", "note"], ["works", "limited"], 0),
        (["ok", "unknown"], ["works"], 2),
        (["ok"], ["unknown"], 2),
        (["unknown", "fails"], ["works"], 1),
        (["ok", "unknown"], ["works", "fails"], 1),
    ],
)
def test_the_exit_code_is_the_worst_that_was_found(
    states: list[str], fits: list[str], code: int
) -> None:
    found = [Check("x", state, "") for state in states]
    judged = [JudgedGpu(A100, {fit: Verdict(fit, "") for fit in fits})]
    assert get_exit_code(found, judged) == code


def test_a_person_reads_a_table_and_what_to_do() -> None:
    advised = Check("shared memory", "note", "64 MiB", "Start it with --shm-size=8g.")
    other = replace(A100, index=1, cuda_cores=None, memory_total_bytes=None, name=None)
    verdict = Verdict("fails", "needs driver ≥ 580, this host has 535.161.08", "Install it.")
    text = build_text([advised], [JudgedGpu(A100, {"v3": verdict}), JudgedGpu(other, {})])
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines == [
        "note shared memory 64 MiB",
        "→ Start it with --shm-size=8g.",
        "",
        "GPU name compute capability CUDA cores memory driver its CUDA",
        "0 NVIDIA A100-SXM4-80GB 8.0 6,912 80 GiB 535.161.08 unknown",
        "1 unknown 8.0 unknown unknown 535.161.08 unknown",
        "fails GPU 0: v3 needs driver ≥ 580, this host has 535.161.08",
        "→ Install it.",
    ]


@pytest.mark.parametrize(
    ("loaded", "declared", "state"),
    [
        ("9.5.1", "9.5.1", "ok"),
        ("9.5.0", "9.5.1", "fails"),
        (None, "9.5.1", "unknown"),
        ("9.5.1", None, "unknown"),
    ],
)
def test_what_is_loaded_is_what_is_declared(
    loaded: str | None, declared: str | None, state: str
) -> None:
    assert checks.compare("cuDNN", loaded, declared).state == state


@pytest.mark.parametrize(
    ("names", "state", "found"),
    [
        (["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], "ok", "2 GPUs, nvidiactl, nvidia-uvm"),
        (["nvidia3", "nvidia7", "nvidiactl"], "fails", "missing in /dev: nvidia-uvm"),
        (["nvidia0", "nvidiactl", "nvidia-uvm"], "fails", "1 of nvidia0, nvidia1, …"),
        ([], "fails", "nvidiactl, nvidia-uvm, 2 of"),
    ],
)
def test_device_nodes(tmp_path: Path, names: list[str], state: str, found: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    check = checks.check_device_nodes([A100, replace(A100, index=1)], tmp_path)
    assert check.state == state
    assert found in check.found
    assert checks.check_device_nodes([SIMULATED], tmp_path / "absent").state == "ok"


@pytest.mark.parametrize(
    ("blocks", "state", "found"),
    [(2**14, "note", "64 MiB"), (2**18, "ok", "1.0 GiB"), (2**21, "ok", "8.0 GiB")],
)
def test_shared_memory(
    monkeypatch: pytest.MonkeyPatch, blocks: int, state: str, found: str
) -> None:
    size = SimpleNamespace(f_blocks=blocks, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: size)
    check = checks.check_shm(Path("/dev/shm"))
    assert (check.state, check.found) == (state, found)


def test_shared_memory_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    assert checks.check_shm(tmp_path / "shm").state == "unknown"


@pytest.mark.parametrize(
    ("seen", "state", "found"),
    [
        (GpuProbe(), "note", "none: this container computes on the CPU"),
        (GpuProbe((SIMULATED,)), "note", "1 SIMULATED: they compute nothing"),
        (GpuProbe((A100, SIMULATED)), "ok", "2"),
        (GpuProbe(error="NVML does not work: x"), "unknown", "NVML does not work: x"),
    ],
)
def test_gpus_are_counted_and_simulated_ones_are_called_so(
    seen: GpuProbe, state: str, found: str
) -> None:
    check = checks.check_gpus(seen)
    assert (check.state, check.found) == (state, found)


class BrokenCuda(ModuleType):
    """PyTorch on a host with a failing CUDA, or one with wrong results."""

    def __init__(self, error: str | None) -> None:
        super().__init__("torch")
        self.cuda = SimpleNamespace(init=self._init, device_count=lambda: 2)
        self._error = error

    def _init(self) -> None:
        if self._error:
            raise RuntimeError(self._error)


def test_a_gpu_that_does_not_compute_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = BrokenCuda("CUDA driver version is insufficient\nand much more")
    check = checks.check_computing(broken, [A100])
    assert (check.state, check.found) == ("fails", "CUDA driver version is insufficient")
    monkeypatch.setattr(checks, "_multiplies", lambda _torch, index: index == 0)
    check = checks.check_computing(BrokenCuda(None), [A100, A100])
    assert (check.state, check.found) == ("fails", "wrong results on GPU 1")
    monkeypatch.setattr(checks, "_multiplies", lambda _torch, _index: True)
    assert checks.check_computing(BrokenCuda(None), [A100, A100]).state == "ok"


def test_a_simulated_gpu_is_never_asked_to_compute() -> None:
    check = checks.check_computing(BrokenCuda("asked"), [SIMULATED])
    assert (check.state, check.found) == ("ok", "not tested: simulated GPUs compute nothing")


def test_without_nvitop_the_gpus_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvitop", None)
    assert checks.check_gpus(gpus.probe_gpus()).state == "unknown"


def test_an_image_without_a_manifest_is_unknown(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "manifest.json") is None
    assert checks.check_release(None).state == "unknown"
    assert checks.check_release(Manifest(release="v2.7")).state == "unknown"


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff\xfe"])
def test_a_damaged_manifest_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ToolError, match="pull the image again"):
        read_manifest(path)


def test_a_manifest_says_where_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**DECLARED, "packages": {}}))
    manifest = read_manifest(path)
    assert manifest is not None
    assert manifest.stack == Stack("12.6", "525.60.13", ("sm_80", "sm_90"))
    path.write_text(json.dumps({**DECLARED, "driver": 525, "architectures": None}))
    manifest = read_manifest(path)
    assert manifest is not None
    assert manifest.stack is None


def test_the_command_says_it_as_json_and_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "workbench_toolkit.doctor.command.probe_gpus", lambda: GpuProbe((SIMULATED,))
    )
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**DECLARED, "torch": "1.0.0", "driver": "580"}))
    assert main(["doctor", "--manifest", str(path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report.keys() == GOLDEN.keys()
    assert (report["simulated"], report["exit_code"]) == (True, 1)
    assert report["gpus"][0].keys() == GOLDEN["gpus"][0].keys()
    assert report["gpus"][0]["verdicts"]["v2.7"]["fit"] == "fails"
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert states["PyTorch"] == "fails"
    assert main(["doctor", "--manifest", str(path)]) == 1
    assert "v2.7 needs driver ≥ 580, this host has 535.161.08" in capsys.readouterr().out
