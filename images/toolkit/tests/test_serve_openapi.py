"""OpenAPI document: schemathesis compares it with the service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from serve_helpers import Served, environment_of_toolkit, export_text, served

TOKEN = "s3cret"
TESTS = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_text(tmp_path_factory.mktemp("text"))


@pytest.mark.parametrize("model", ["model.pt", "model.onnx"])
def test_every_answer_is_one_that_the_document_promises(
    folder: Path, tmp_path: Path, model: str
) -> None:
    with served(folder / model, WB_SERVE_TOKEN=TOKEN) as server:
        ended = fuzz(server, tmp_path)

        assert ended.returncode == 0, ended.stdout
        assert server.metric("wb_serve_requests_total", code="200") > 50
        assert server.metric("wb_serve_errors_total", reason="input") > 50
        assert server.metric("wb_serve_errors_total", reason="model") == 0
        assert server.metric("wb_serve_worker_restarts_total") == 0


def fuzz(server: Served, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {TOKEN}", "--checks", "all"),
        *(
            "--max-examples",
            "300",
            "--seed",
            "4",
            "--generation-database",
            "none",
            "--no-color",
            "--output-sanitize",
            "false",
        ),
    ]
    environment = environment_of_toolkit(TESTS) | {"SCHEMATHESIS_HOOKS": "schemathesis_npz"}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
