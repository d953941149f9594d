"""Serve helpers: real ``wb serve`` processes, and a model with chosen times, failures and answers.

Every started process ends with its test; a server that does not start fails it with the server's output.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import torch
from prometheus_client.parser import text_string_to_metric_families
from workbench_toolkit.cli import main
from workbench_toolkit.export.contract import Contract, TensorSpec, hash_file

TOOLKIT = Path(__file__).resolve().parent.parent


class Obedient(torch.nn.Module):
    """Doubles its two numbers per row. The second one sets the time in thousands of loops; 13 fails.

    A number below 0 never ends.
    """

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if bool((x[:, 1] == 13).any()):
            raise ValueError("unlucky")
        turns = x[:, 1].abs().max() * 1000
        is_endless = bool((x[:, 1] < 0).any())
        while is_endless or bool(turns > 0):
            turns = turns - 1
        return x * 2, x[:, 0] > 0


def write_obedient(folder: Path, rows_independent: bool = True) -> Path:
    """Write the model and its contract into ``folder``, and return the folder."""
    folder.mkdir(exist_ok=True)
    torch.jit.script(Obedient()).save(folder / "model.pt")
    Contract(
        (TensorSpec("x", (-1, 2), "float32"),),
        (TensorSpec("doubled", (-1, 2), "float32"), TensorSpec("positive", (-1,), "bool")),
        {"torchscript": {"model.pt": hash_file(folder / "model.pt")}},
        rows_independent,
        torch.__version__,
    ).write(folder)
    return folder


TEXT = """
import torch
from torch import nn

class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, tokens, weight, ticket):
        mean = self.words(tokens).mean(1)
        weighed = mean * weight[:, None]
        return {"logits": self.head(mean), "weighed": weighed, "log": weight.log(), "next": ticket + 1}

torch.manual_seed(3)
model = Text()
"""


def export_text(folder: Path) -> Path:
    """Export a small model of words, weights and int64 tickets into ``folder``, and return the folder."""
    (folder / "text_model.py").write_text(TEXT)
    inputs = ["tokens=3x6:int64:50", "weight=3", "ticket=3:int64"]
    words = [word for described in inputs for word in ("--input", described)]
    assert main(["export", f"{folder / 'text_model.py'}:model", "--out", str(folder), *words]) == 0
    return folder


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Poll until ``condition`` is true; fail with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"this did not happen: {what}"
        time.sleep(0.02)


@dataclasses.dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    process: subprocess.Popen[str]
    token: str = ""

    def predict(
        self, *rows: Sequence[float], headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Request a prediction of ``rows`` from the obedient model."""
        body = {"instances": [{"x": list(row)} for row in rows]}
        return httpx.post(f"{self.url}/predict", json=body, headers=headers, timeout=60)

    def health(self) -> int:
        """Return the status code of /health."""
        return httpx.get(f"{self.url}/health", timeout=60).status_code

    def metric(self, name: str, **labels: str) -> float:
        """Return one sample of /metrics."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        text = httpx.get(f"{self.url}/metrics", headers=headers, timeout=60).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        raise AssertionError(f"no {name}{labels} in\n{text}")

    @property
    def worker(self) -> int:
        """The process id of the model's process."""
        found = [
            int(path.name)
            for path in Path("/proc").iterdir()
            if path.name.isdigit() and _is_worker(path, self.process.pid)
        ]
        assert len(found) == 1, found
        return found[0]


def _is_worker(path: Path, parent: int) -> bool:
    try:
        status = (path / "stat").read_text().rpartition(")")[2].split()
        return int(status[1]) == parent and b"spawn_main" in (path / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_running(pid: int) -> bool:
    """Return whether the process ``pid`` exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def serve_command(folder: Path, *words: str) -> list[str]:
    """Return the command that serves ``folder``."""
    return [sys.executable, "-m", "workbench_toolkit.cli", "serve", str(folder), *words]


def environment_of_toolkit(*folders: Path) -> dict[str, str]:
    """Return this process's environment with the toolkit and ``folders`` on Python's path."""
    path = [str(TOOLKIT), *map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)}


@contextlib.contextmanager
def served(folder: Path, *words: str, **environment: str) -> Iterator[Served]:
    """Serve ``folder`` with further ``words`` on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = serve_command(folder, "--port", str(port), *words)
    variables = (
        environment_of_toolkit() | {"OMP_NUM_THREADS": "1", "WB_SERVE_HOST": ""} | environment
    )
    process = subprocess.Popen(
        command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    server = Served(f"http://127.0.0.1:{port}", process, environment.get("WB_SERVE_TOKEN", ""))
    try:
        wait_for(lambda: process.poll() is not None or _answers(server), "the server answers")
        assert process.poll() is None, process.communicate()[1]
        yield server
    finally:
        process.terminate()
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()


def _answers(server: Served) -> bool:
    try:
        return server.health() == 200
    except httpx.TransportError:
        return False
