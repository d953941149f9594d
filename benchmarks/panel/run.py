"""Measures the GPU panel and jupyterlab-nvdashboard on the same simulated GPUs.

Standard library only. Each server has a virtual environment of its own under .cache/. Every figure of a table
comes from one run on one machine, so that the ratios hold on other machines too.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PANEL = REPOSITORY / "extensions" / "gpu-panel"
SIMULATION = REPOSITORY / "simulation"
CACHE = REPOSITORY / ".cache" / "benchmarks" / "panel"
JUPYTERLAB = "jupyterlab==4.6.6"
NVDASHBOARD = "jupyterlab-nvdashboard==0.15.0"
GPUS = 2
CLIENTS = (0, 1, 20)
START_SECONDS = 60


@dataclass(frozen=True)
class Design:
    """A dashboard: what is installed, and what one client of it opens and says."""

    name: str
    environment: str
    extension: str
    paths: tuple[str, ...]
    first_word: str = ""


NVDASHBOARD_CHARTS = tuple(
    f"nvdashboard/{chart}" for chart in ("gpu_usage", "gpu_utilization", "gpu_resource")
)
DESIGNS = (
    Design("gpu-panel", "panel", "jupyterlab-gpu-panel", ("gpu-panel/stream",)),
    Design(
        "nvdashboard, its own 100 ms",
        "nvdashboard",
        "jupyterlab-nvdashboard",
        NVDASHBOARD_CHARTS,
        '{"updateFrequency": 100, "isPaused": false}',
    ),
    Design(
        "nvdashboard, set to 1000 ms",
        "nvdashboard",
        "jupyterlab-nvdashboard",
        NVDASHBOARD_CHARTS,
        '{"updateFrequency": 1000, "isPaused": false}',
    ),
)
"""nvdashboard's client opens what the panel shows too: memory and utilisation, now and as lines.

It has no temperature and no power. Its PCIe and NVLink charts stay closed.
"""


def run(*command: str | Path) -> None:
    """Run a command that must succeed; its output appears only when it does not."""
    done = subprocess.run(command, text=True, capture_output=True, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")


def make_environment(name: str, *requirements: str | Path) -> None:
    """Make a virtual environment under the cache, once."""
    home = CACHE / name
    if not (home / "complete").exists():
        run(sys.executable, "-m", "venv", "--clear", home)
        run(home / "bin" / "pip", "install", JUPYTERLAB, *requirements)
        (home / "complete").touch()


def build_panel() -> None:
    """Build the panel's wheel from the working tree and install it over what is there."""
    pip = CACHE / "panel" / "bin" / "pip"
    with tempfile.TemporaryDirectory() as wheels:
        run(pip, "wheel", "--no-deps", "--wheel-dir", wheels, PANEL)
        (wheel,) = Path(wheels).glob("*.whl")
        run(pip, "install", "--force-reinstall", "--no-deps", wheel)
        run(pip, "install", wheel)


def make_gpus(directory: Path) -> None:
    """Build the simulated library and GPUs whose values swing."""
    library = directory / "libnvidia-ml.so.1"
    run("make", "-C", SIMULATION, f"OUTPUT={library}")
    places = (f"--dir={directory}/gpus", f"--library={library}", f"--cdi={directory}/cdi.json")
    create = (sys.executable, SIMULATION / "simulate.py", "create", f"--gpus={GPUS}")
    run(*create, "--wave-seconds=60", *places)


@contextmanager
def running_server(design: Design, gpus: Path, token: str) -> Iterator[tuple[int, int]]:
    """Start JupyterLab on the simulated GPUs and yield its process id and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "HOME": home,
            "JUPYTER_TOKEN": token,
            "LD_LIBRARY_PATH": str(gpus),
            "SIMULATED_GPUS_DIR": str(gpus / "gpus"),
        }
        command = [
            str(CACHE / design.environment / "bin" / "jupyter-lab"),
            "--no-browser",
            "--allow-root",
            f"--ServerApp.port={port}",
            "--ServerApp.port_retries=0",
        ]
        server = subprocess.Popen(  # noqa: S603
            command,
            cwd=home,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/api/status?token={token}")
            yield server.pid, port
        finally:
            server.terminate()
            server.wait()


def wait_for(url: str) -> None:
    """Return once the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310
                return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"JupyterLab did not answer within {START_SECONDS} s.")


def measure(design: Design, gpus: Path, seconds: float) -> dict[int, dict[str, float]]:
    """Return the figures of one design by number of clients."""
    token = secrets.token_hex()
    python = CACHE / design.environment / "bin" / "python"
    figures = {}
    for clients in CLIENTS:
        with running_server(design, gpus, token) as (pid, port):
            options = {"pid": pid, "port": port, "token": token, "clients": clients}
            script = Path(__file__).with_name("clients.py")
            command = [str(python), str(script), f"--seconds={seconds}"]
            command += [f"--{name}={value}" for name, value in options.items()]
            command += [f"--path={path}" for path in design.paths]
            command += [f"--first-word={design.first_word}"]
            done = subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True)  # noqa: S603
            figures[clients] = json.loads(done.stdout)
        print(f"  {design.name}, {clients} clients: {figures[clients]}", file=sys.stderr)
    return figures


def bundle_bytes(design: Design) -> int:
    """Return the size of all that the extension lets a browser load."""
    share = CACHE / design.environment / "share" / "jupyter" / "labextensions"
    static = share / design.extension / "static"
    return sum(file.stat().st_size for file in static.rglob("*.js"))


def print_table(results: dict[str, dict[int, dict[str, float]]]) -> None:
    """Print every figure with its ratio to the panel's."""
    titles = {
        "cpu_seconds_per_hour": "server CPU, s/h",
        "bytes_per_second_per_client": "bytes/s per client",
        "latency_median_ms": "other request, median ms",
        "latency_p99_ms": "other request, p99 ms",
    }
    width = max(map(len, results))
    ours = results[DESIGNS[0].name]
    for key, title in titles.items():
        print(f"\n{title:{width}}" + "".join(f"{f'{n} clients':>22}" for n in CLIENTS))
        for name, figures in results.items():
            cells = ((figures[n][key], ours[n][key]) for n in CLIENTS)
            print(f"{name:{width}}" + "".join(f"{format_cell(*cell):>22}" for cell in cells))
    print(f"\n{'bundle, kB':{width}}")
    for design in (DESIGNS[0], DESIGNS[1]):
        size, own = bundle_bytes(design) / 1000, bundle_bytes(DESIGNS[0]) / 1000
        print(f"{design.extension:{width}}{format_cell(size, own):>22}")


def format_cell(value: float, own: float) -> str:
    """Return a figure and how many times the panel's it is."""
    return f"{value:.1f}" + (f" ({value / own:.2f} x)" if own else "")


def main() -> None:
    """Measure every design and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=30, help="per figure; default: %(default)s"
    )
    seconds = parser.parse_args().seconds
    make_environment("panel")
    make_environment("nvdashboard", NVDASHBOARD)
    build_panel()
    with tempfile.TemporaryDirectory() as directory:
        make_gpus(Path(directory))
        results = {design.name: measure(design, Path(directory), seconds) for design in DESIGNS}
    print_table(results)


if __name__ == "__main__":
    main()
