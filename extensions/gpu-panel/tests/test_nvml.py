"""NVML reader: on the simulated library, and without a library."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gpu_panel import nvml

SIMULATION = Path(__file__).parents[3] / "simulation"
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
import gpu_panel, gpu_panel.stream_handler, gpu_panel.nvml, gpu_panel.sampler
assert not {"nvitop", "pynvml"} & set(sys.modules)
assert "nvidia-ml" not in open("/proc/self/maps").read()
"""


class Simulation:
    """Two simulated GPUs and a process that reads them; ``read`` returns one message.

    ``options`` are further options of ``simulate.py create``.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self._gpus = directory / "gpus"
        library = directory / "libnvidia-ml.so.1"
        subprocess.run(
            ["make", "-s", "-C", SIMULATION, f"OUTPUT={library}"],
            check=True,
            capture_output=True,
        )
        places = (f"--library={library}", f"--cdi={directory}/cdi.json")
        self._simulate("create", "--gpus=2", *places, *options)
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

    def set(self, uuid: str, *pairs: str) -> None:
        """Change values of a GPU or MIG instance."""
        self._simulate("set", uuid, *pairs)

    def read(self) -> dict[str, Any]:
        """Return the current message."""
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
    """Return two simulated GPUs with a library compiled for this test."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: the simulated library cannot be built")
    yield from running(Simulation(tmp_path))


@pytest.fixture
def divided(tmp_path: Path) -> Iterator[Simulation]:
    """Return two simulated GPUs, the first of them divided into three MIG instances."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: the simulated library cannot be built")
    yield from running(Simulation(tmp_path, "--mig=0=1g.10gb:2,3g.40gb:1"))


def running(simulation: Simulation) -> Iterator[Simulation]:
    """Yield ``simulation``, then end its reader."""
    yield simulation
    if simulation.process.poll() is None:
        assert simulation.stop() == "", "the reader wrote to stderr"


def test_it_reads_the_gpus_and_their_changes(simulation: Simulation) -> None:
    first, second = simulation.read()["gpus"]
    assert (first["uuid"], second["uuid"]) == tuple(UUIDS)
    simulation.set(
        UUIDS[1],
        f"memory_used_bytes={30 * 2**30}",
        "temperature_celsius=71",
        "utilization_percent=99",
        "power_milliwatts=333250",
        "power_limit_milliwatts=350000",
    )
    assert simulation.read()["gpus"][1] == {
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


def test_an_unsupported_value_is_unknown(simulation: Simulation) -> None:
    simulation.set(UUIDS[0], "temperature_celsius=unsupported", "power_milliwatts=unsupported")
    gpu = simulation.read()["gpus"][0]
    assert (gpu["temperature_celsius"], gpu["power_watts"]) == (None, None)
    assert gpu["health"] == "ok"
    assert gpu["power_limit_watts"] == 400.0


def test_a_lost_gpu_keeps_its_name_and_the_other_its_values(simulation: Simulation) -> None:
    before = simulation.read()["gpus"]
    simulation.set(UUIDS[1], "health=lost")
    first, second = simulation.read()["gpus"]
    assert (first["health"], first["memory_used_bytes"]) == ("ok", before[0]["memory_used_bytes"])
    assert (second["uuid"], second["name"], second["health"]) == (
        before[1]["uuid"],
        before[1]["name"],
        "lost",
    )
    values = {key: value for key, value in second.items() if key.endswith(("bytes", "celsius"))}
    assert set(values.values()) == {None}
    simulation.set(UUIDS[1], "health=ok")
    assert simulation.read()["gpus"][1]["health"] == "ok"


def test_a_gpu_lost_from_the_start_is_lost(simulation: Simulation) -> None:
    simulation.set(UUIDS[0], "health=lost")
    first, second = simulation.read()["gpus"]
    assert (first["index"], first["health"], first["memory_used_bytes"]) == (0, "lost", None)
    assert (second["index"], second["health"]) == (1, "ok")
    simulation.set(UUIDS[0], "health=ok")
    assert [gpu["uuid"] for gpu in simulation.read()["gpus"]] == UUIDS


def test_a_divided_gpu_is_shown_as_its_instances(divided: Simulation) -> None:
    *instances, whole = divided.read()["gpus"]
    assert [gpu["name"] for gpu in instances] == [
        f"NVIDIA A100-SXM4-80GB MIG {profile} (simulated)"
        for profile in ("1g.10gb", "1g.10gb", "3g.40gb")
    ]
    assert [gpu["memory_total_bytes"] for gpu in instances] == [10 * 2**30, 10 * 2**30, 40 * 2**30]
    assert [gpu["index"] for gpu in [*instances, whole]] == [0, 1, 2, 3]
    for gpu in instances:
        assert gpu["uuid"].startswith("MIG-")
        assert (gpu["health"], gpu["simulated"]) == ("ok", True)
        assert gpu["memory_used_bytes"] is not None
        # NVML has neither value per instance; the temperature is that of the GPU
        assert (gpu["utilization_percent"], gpu["power_watts"]) == (None, None)
    assert (whole["uuid"], whole["utilization_percent"] is not None) == (UUIDS[1], True)


def test_memory_and_temperature_of_an_instance_follow_changes(divided: Simulation) -> None:
    second = divided.read()["gpus"][1]["uuid"]
    divided.set(second, f"memory_used_bytes={7 * 2**30}")
    divided.set(UUIDS[0], "temperature_celsius=77")
    instances = divided.read()["gpus"][:3]
    assert [gpu["memory_used_bytes"] == 7 * 2**30 for gpu in instances] == [False, True, False]
    assert [gpu["temperature_celsius"] for gpu in instances] == [77, 77, 77]


def test_a_lost_gpu_loses_its_own_instances_only(divided: Simulation) -> None:
    before = [gpu["uuid"] for gpu in divided.read()["gpus"]]
    divided.set(UUIDS[0], "health=lost")
    gpus = divided.read()["gpus"]
    assert [gpu["uuid"] for gpu in gpus] == before
    assert [gpu["health"] for gpu in gpus] == ["lost", "lost", "lost", "ok"]
    divided.set(UUIDS[0], "health=ok")
    assert [gpu["health"] for gpu in divided.read()["gpus"]] == ["ok"] * 4


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
