"""Examples from data to training, on a CPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from train_helpers import ENVIRONMENT

EXAMPLES = Path(__file__).parents[2] / "pytorch-cuda" / "examples"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the examples, with `wb` on PATH as in the image."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    wb = tmp_path / "bin" / "wb"
    wb.parent.mkdir()
    wb.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m workbench_toolkit.cli "$@"\n')
    wb.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wb.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path / "examples"


def run_notebook(path: Path) -> tuple[str, int]:
    """Run all cells; return their output and the number of figures."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    figures = sum("image/png" in output.get("data", {}) for output in outputs)
    return "".join(output.get("text", "") for output in outputs), figures


def run_script(home: Path, *words: str) -> str:
    ended = subprocess.run(
        [sys.executable, *words], cwd=home, capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_packing(home: Path) -> None:
    output, figures = run_notebook(home / "packing.ipynb")
    assert "images.h5: 2000 files, 1568000 bytes" in output
    assert "images.h5: whole, 2000 files" in output
    assert "2000 0/000000.raw (784,) 0" in output
    assert figures == 1
    # in any order, an image keeps its digit, whose two rows are bright
    assert "tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])" in output
    assert "the GPU would wait" in output
    run_script(home, "packing.py", "others")
    assert len(list((home / "others").rglob("*.raw"))) == 2_000


def test_several_processes_stopped_and_started_again(home: Path) -> None:
    output, _ = run_notebook(home / "ddp.ipynb")
    assert "2 processes" in output
    assert "exit code 75" in output
    epochs = [int(number) for number in re.findall(r"epoch (\d+): loss", output)]
    assert epochs == list(range(1, 21)), "an epoch was left out or done twice"
    stopped_at = int(output.split("continuing with epoch ")[1].split()[0])
    assert 2 <= stopped_at < 20
    losses = [float(line.split()[1]) for line in output.splitlines()[-20:]]
    assert 0 < losses[-1] < losses[0] / 10


def test_memory(home: Path) -> None:
    output, figures = run_notebook(home / "memory.ipynb")
    assert figures == 1
    peaks = {
        name.strip(): float(size)
        for name, size in re.findall(r"^(.+?) +(\d+) MB$", output, re.MULTILINE)
    }
    before = peaks.pop("nothing")
    assert set(peaks) == {
        "mixed precision",
        "gradient accumulation",
        "activation checkpointing",
        "all three",
    }
    assert all(peak < 0.8 * before for peak in peaks.values()), (before, peaks)
    assert peaks["all three"] == min(peaks.values())


def test_fine_tuning(home: Path) -> None:
    output, _ = run_notebook(home / "finetune.ipynb")
    before, after, again = (int(share) for share in re.findall(r"(\d+)% right", output))
    assert before < 20
    assert after > 90
    assert again == after
    assert "trainable params" in output


def test_fine_tuning_as_a_script(home: Path) -> None:
    output = run_script(home, "finetune.py")
    assert [int(share) > 90 for share in re.findall(r"(\d+)% right", output)] == [False, True, True]
