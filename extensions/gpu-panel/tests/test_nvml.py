"""The boundary to NVML: on the simulated library, and without any."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gpu_panel import nvml

SIMULATION = Path(__file__).parents[3] / "tests" / "simulation"
UUIDS = [f"GPU-51a0c0de-0000-4000-8000-{number:012x}" for number in range(2)]
READ_ON_DEMAND = """
import sys
from gpu_panel.message import build_message
from gpu_panel.nvml import NvmlReader
read = NvmlReader()
for _ in sys.stdin:
    print(build_message(read(), 1.0).decode(), flush=True)
"""
IMPORT_ALL = """
import sys
import gpu_panel, gpu_panel.handler, gpu_panel.nvml, gpu_panel.sampler
assert not {"nvitop", "pynvml"} & set(sys.modules)
assert "nvidia-ml" not in open("/proc/self/maps").read()
"""

Ask = Callable[[], dict[str, Any]]


class Simulation:
    """Two simulated GPUs and a process that reads them; ``ask`` returns one message."""

    def __init__(self, directory: Path) -> None:
        self._gpus = directory / "gpus"
        library = directory / "libnvidia-ml.so.1"
        subprocess.run(
            ["make", "-s", "-C", SIMULATION, f"OUTPUT={library}"],
            check=True,
            capture_output=True,
        )
        self._simulate("create", "--gpus=2", f"--library={library}", f"--cdi={directory}/cdi.json")
        environment = {
            "LD_LIBRARY_PATH": str(directory),
            "SIMULATED_GPUS_DIR": str(self._gpus),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", READ_ON_DEMAND],
            cwd=Path(nvml.__file__).parents[1],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def set(self, number: int, *pairs: str) -> None:
        """Let a GPU say something else from now on."""
        self._simulate("set", UUIDS[number], *pairs)

    def ask(self) -> dict[str, Any]:
        """Return the message of now."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        message: dict[str, Any] = json.loads(self.process.stdout.readline())
        return message

    def stop(self) -> str:
        """End the process and return what it wrote to stderr."""
        return self.process.communicate(timeout=20)[1]

    def _simulate(self, command: str, *arguments: str) -> None:
        subprocess.run(
            [
                sys.executable,
                SIMULATION / "simulate.py",
                command,
                f"--dir={self._gpus}",
                *arguments,
            ],
            check=True,
            capture_output=True,
        )


@pytest.fixture
def simulation(tmp_path: Path) -> Iterator[Simulation]:
    """Return two simulated GPUs, compiled for this test."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: the simulated library cannot be built")
    simulation = Simulation(tmp_path)
    yield simulation
    if simulation.process.poll() is None:
        assert simulation.stop() == "", "a reader has nothing to say on stderr"


def test_it_reads_what_the_gpu_says_and_follows_its_changes(simulation: Simulation) -> None:
    first, second = simulation.ask()["gpus"]
    assert (first["uuid"], second["uuid"]) == tuple(UUIDS)
    simulation.set(
        1,
        f"memory_used_bytes={30 * 2**30}",
        "temperature_celsius=71",
        "utilization_percent=99",
        "power_milliwatts=333250",
        "power_limit_milliwatts=350000",
    )
    assert simulation.ask()["gpus"][1] == {
        "uuid": UUIDS[1],
        "index": 1,
        "name": "NVIDIA A100-SXM4-80GB (simulated)",
        "health": "ok",
        "simulated": True,
        "memory_used_bytes": 30 * 2**30,
        "memory_total_bytes": 80 * 2**30,
        "temperature_celsius": 71,
        "utilization_percent": 99,
        "power_watts": 333.2,
        "power_limit_watts": 350.0,
    }


def test_what_is_not_supported_is_unknown(simulation: Simulation) -> None:
    simulation.set(0, "temperature_celsius=unsupported", "power_milliwatts=unsupported")
    gpu = simulation.ask()["gpus"][0]
    assert (gpu["temperature_celsius"], gpu["power_watts"]) == (None, None)
    assert gpu["health"] == "ok"
    assert gpu["power_limit_watts"] == 400.0


def test_a_lost_gpu_keeps_its_name_and_leaves_the_other_alone(simulation: Simulation) -> None:
    before = simulation.ask()["gpus"]
    simulation.set(1, "health=lost")
    first, second = simulation.ask()["gpus"]
    assert (first["health"], first["memory_used_bytes"]) == ("ok", before[0]["memory_used_bytes"])
    assert (second["uuid"], second["name"], second["health"]) == (
        before[1]["uuid"],
        before[1]["name"],
        "lost",
    )
    values = {key: value for key, value in second.items() if key.endswith(("bytes", "celsius"))}
    assert set(values.values()) == {None}
    simulation.set(1, "health=ok")
    assert simulation.ask()["gpus"][1]["health"] == "ok"


def test_a_gpu_lost_from_the_start_is_said_to_be_lost(simulation: Simulation) -> None:
    simulation.set(0, "health=lost")
    first, second = simulation.ask()["gpus"]
    assert (first["index"], first["health"], first["memory_used_bytes"]) == (0, "lost", None)
    assert (second["index"], second["health"]) == (1, "ok")
    simulation.set(0, "health=ok")
    assert [gpu["uuid"] for gpu in simulation.ask()["gpus"]] == UUIDS


def test_without_the_library_there_is_no_gpu_and_no_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    opened = []

    def open_nothing(name: str) -> None:
        opened.append(name)
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", open_nothing)
    nvml.has_library.cache_clear()
    read = nvml.NvmlReader()
    readings = [read() for _ in range(3)]
    nvml.has_library.cache_clear()
    assert [(reading.gpus, reading.error) for reading in readings] == [((), None)] * 3
    assert opened == ["libnvidia-ml.so.1"]
    assert capfd.readouterr() == ("", "")


def test_a_driver_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from nvitop import libnvml  # type: ignore[import-untyped]

    def fail() -> None:
        raise libnvml.NVMLError(libnvml.NVML_ERROR_DRIVER_NOT_LOADED)

    monkeypatch.setattr(nvml, "has_library", lambda: True)
    monkeypatch.setattr(nvml, "_list_devices", fail)
    reading = nvml.NvmlReader()()
    assert reading.gpus == ()
    assert reading.error == "The NVIDIA driver does not answer: Driver Not Loaded."


def test_importing_opens_nothing() -> None:
    command = [sys.executable, "-c", IMPORT_ALL]
    subprocess.run(command, check=True, cwd=Path(nvml.__file__).parents[1])
