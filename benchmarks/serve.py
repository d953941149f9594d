"""Measures what batching brings to ``wb serve``: ``python -m benchmarks.serve``, where PyTorch and FastAPI are.

Many clients request one row at a time, first from a server that batches and then from one that does not. The ratio
of requests per second is taken per round, and the median of the rounds counts. Each model has one thread,
so that the machine's other work is not part of the ratio.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

TOOLKIT = Path(__file__).resolve().parent.parent / "images" / "toolkit"
SOURCE = """
from torch import nn

def network():
    wide = [layer for _ in range(3) for layer in (nn.Linear(2048, 2048), nn.ReLU())]
    return nn.Sequential(nn.Linear(64, 2048), nn.ReLU(), *wide, nn.Linear(2048, 10))
"""
INSTANCE = json.dumps({"instances": [{"input": [0.5] * 64}]})
HEADERS = {"Content-Type": "application/json"}
START_SECONDS = 120


def run_toolkit(*words: str) -> subprocess.Popen[bytes]:
    """Start ``wb`` with ``words``."""
    path = os.pathsep.join(filter(None, [str(TOOLKIT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "workbench_toolkit.cli", *words]
    variables = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL)  # noqa: S603


@contextmanager
def serve(model: Path, max_batch: int) -> Iterator[int]:
    """Serve ``model`` on a free port, which is yielded once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    words = ["--host", "127.0.0.1", "--port", str(port), "--max-batch", str(max_batch)]
    process = run_toolkit("serve", str(model), *words)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("The server did not start: see the lines above.")
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def is_ready(port: int) -> bool:
    """Return whether the server on ``port`` can predict."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def requests_per_second(port: int, clients: int, seconds: float) -> float:
    """Return the answers per second that ``clients`` get together, each with one request at a time."""
    end = time.monotonic() + seconds

    def client(_: int) -> int:
        connection, answers = http.client.HTTPConnection("127.0.0.1", port), 0
        while time.monotonic() < end:
            connection.request("POST", "/predict", INSTANCE, HEADERS)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"The server answered {answer.status}.")
            answers += 1
        connection.close()
        return answers

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(client, range(clients))) / seconds


def compare(model: Path, clients: int, turns: int, seconds: float) -> None:
    """Print one line for ``model``."""
    ratios, together, alone = [], [], []
    with ExitStack() as stack:
        batching, single = (
            stack.enter_context(serve(model, 32)),
            stack.enter_context(serve(model, 1)),
        )
        for _ in range(turns):
            together.append(requests_per_second(batching, clients, seconds))
            alone.append(requests_per_second(single, clients, seconds))
            ratios.append(together[-1] / alone[-1])
    print(
        f"{model.name:12} {clients} clients  batching {statistics.median(together):6.0f}/s  "
        f"one by one {statistics.median(alone):6.0f}/s  ratio {statistics.median(ratios):.1f} "
        f"({min(ratios):.1f} to {max(ratios):.1f} in {turns} turns)"
    )


def main() -> None:
    """Export the network and compare for each format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "network.py").write_text(SOURCE)
        source = f"{folder / 'network.py'}:network"
        if run_toolkit("export", source, "--input", "input=4x64", "--out", name).wait():
            raise SystemExit("The model could not be exported: see the lines above.")
        for file in ("model.pt", "model.onnx"):
            compare(folder / file, arguments.clients, arguments.turns, arguments.seconds)


if __name__ == "__main__":
    main()
