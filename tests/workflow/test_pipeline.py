"""The whole pipeline with one release, as docs/toolkit.md says it: from many small files to a served answer.

The test types the lines of the docs; each step uses the files of the step before.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from testing.eventually import eventually_sync
from testing.paths import ROOT
from testing.ports import free_port
from tests.workflow.conftest import CATALOG, Shell

SECONDS = 1000
TOLERANCE = 1e-5
"""The largest difference of a served score from the notebook's: float32 on the same machine."""

Scores = list[list[float]]


def lines_of_the_docs() -> list[str]:
    page = (ROOT / "docs" / "toolkit.md").read_text()
    section = page.split("## The whole pipeline\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    return "".join(blocks).splitlines()


def address_of_lab(name: str, port: int) -> str:
    """Return where a lab container says that it is, with its token."""

    def address() -> str:
        logs = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=True)
        found = re.search(r"http://127\.0\.0\.1:8888(/lab\?token=\w+)", logs.stdout + logs.stderr)
        return f"http://127.0.0.1:{port}{found[1]}" if found else ""

    return eventually_sync(address, seconds=90, what="JupyterLab prints its address")


def check_the_loss(browser: Browser, address: str, last: str, screenshot: Path) -> None:
    """Open TensorBoard by its tile in JupyterLab's launcher and see the curve end at epoch 10 with ``last``."""
    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        context.set_default_timeout(60 * SECONDS)
        page = context.new_page()
        page.goto(address)
        with context.expect_page() as opened:
            page.locator(".jp-LauncherCard", has_text="TensorBoard").click()
        board = opened.value
        card = board.locator("scalar-card", has=board.get_by_title("loss", exact=True))
        row = card.locator("tb-data-table-content-row").first
        expect(row).to_contain_text("pipeline/tensorboard", timeout=60 * SECONDS)
        _, _, value, step, *_ = row.inner_text().split()
        assert float(value) == pytest.approx(float(last), abs=0.001)
        assert step == "10"
        board.wait_for_timeout(2 * SECONDS)  # the curve is drawn for the picture
        board.screenshot(path=screenshot)


def served(shell: Shell, line: str, request: Path) -> Scores:
    """Serve with the line of the docs and return what the server answers to the request."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def is_healthy() -> bool:
        try:
            return httpx.get(f"{url}/health", timeout=10).is_success
        except httpx.TransportError:
            return False

    with shell.running(line, port):
        eventually_sync(is_healthy, seconds=90, what="the server answers")
        answer = httpx.post(f"{url}/predict", json=json.loads(request.read_text()), timeout=60)
    assert answer.is_success, answer.text
    return [row["output"] for row in answer.json()["predictions"]]


def scores_in(folder: Path) -> Scores:
    scores: Scores = json.loads((folder / "pipeline-scores.json").read_text())
    return scores


def largest_difference(some: Scores, others: Scores) -> float:
    return max(
        abs(one - other)
        for row, other_row in zip(some, others, strict=True)
        for one, other in zip(row, other_row, strict=True)
    )


def test_from_many_small_files_to_a_served_answer(
    folder: Path, browser: Browser, screenshots: Path
) -> None:
    image = CATALOG.releases[CATALOG.default].image
    first, lab, make, pack, notebook, train, again, export, serve, *_ = (
        line.replace("pytorch-cuda:v2.7", image) for line in lines_of_the_docs()
    )
    shell = Shell(folder, first)
    port = free_port()
    with shell.running(lab, port) as name:
        shell.type(make)
        assert len(list((folder / "images").rglob("*.raw"))) == 2000
        assert "images.h5: 2000 files" in shell.type(pack)
        shell.type(notebook)
        first_try = scores_in(folder)

        said = shell.type(train)
        assert "2 process(es) on the CPU (gloo)" in said or "nccl" in said
        losses = re.findall(r"epoch (\d+): loss (\S+)", said)
        assert [int(epoch) for epoch, _ in losses] == list(range(1, 11))
        address = address_of_lab(name, port)
        check_the_loss(browser, address, losses[-1][1], screenshots / "30-tensorboard.png")
    shell.type(again)
    trained = scores_in(folder)
    assert largest_difference(first_try, trained) > 1, "the notebook saw nothing of the training"
    assert [max(range(10), key=row.__getitem__) for row in trained] == [n // 2 for n in range(20)]

    assert shell.type(export).count("output: max difference") == 2
    for served_line in (serve, serve.replace("wb serve /model", "wb serve /model/model.onnx")):
        answer = served(shell, served_line, folder / "pipeline-request.json")
        assert largest_difference(answer, trained) <= TOLERANCE
    assert {path.stat().st_uid for path in folder.rglob("*")} == {folder.stat().st_uid}
