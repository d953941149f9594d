"""Examples of SimpleNet: notebook, script, export and served answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from serve_helpers import TOOLKIT, environment_of_toolkit, served

EXAMPLES = TOOLKIT.parent / "pytorch-cuda" / "examples"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the examples, with `wb` on PATH as in the image."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    command = tmp_path / "bin" / "wb"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m workbench_toolkit.cli "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", environment_of_toolkit()["PYTHONPATH"])
    return tmp_path / "examples"


def run_notebook(path: Path) -> str:
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


def run_script(home: Path, *words: str) -> str:
    ended = subprocess.run(
        [sys.executable, *words], cwd=home, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_simplenet_is_the_same_as_notebook_and_as_script(home: Path) -> None:
    assert run_notebook(home / "simplenet.ipynb").splitlines()[-1] == "torch.Size([64, 10])"
    assert run_script(home, "simplenet.py") == "torch.Size([64, 10])\n"


def test_a_model_goes_from_training_to_a_served_answer(home: Path) -> None:
    output = run_notebook(home / "export-serve.ipynb")
    assert output.count("output: max difference") == 2
    assert "True" in output.splitlines()

    for model in ("simplenet-model", "simplenet-model/model.onnx"):
        with served(home / model) as server:
            answer = run_script(home, "export-serve-client.py", server.url, "simplenet-model")
        assert answer.startswith("digits: [")
        assert float(answer.split()[-1]) < 1e-5
