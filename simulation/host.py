"""A host with simulated GPUs for tests, without Docker: nvitop reads them in a process of the test's.

The library is the real one, built from its sources once per run.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from nvitop import libnvml

from simulation import simulate

SOURCES = Path(__file__).parent
ROOT = SOURCES.parent


@functools.cache
def build_library() -> Path:
    """Build ``libnvidia-ml.so.1`` with this machine's compiler, or with Docker's where it has none."""
    folder = Path(tempfile.mkdtemp(prefix="simulated-nvml-"))
    library = folder / "libnvidia-ml.so.1"
    if shutil.which("make") and shutil.which("cc"):
        command = ["make", "-C", str(SOURCES), f"OUTPUT={library}"]
    else:
        command = ["/usr/bin/docker", "build", f"--output=type=local,dest={folder}", str(SOURCES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


class SimulatedHost:
    """A folder of simulated GPUs and ways to look at them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, number: int, **values: object) -> str:
        """Make a GPU whose state file holds its index and these values only; return its UUID."""
        uuid = simulate.gpu_uuid(number)
        (self.folder / uuid).mkdir(parents=True)
        pairs = [("index", str(number)), *((key, str(value)) for key, value in values.items())]
        self.write(uuid, simulate.format_state(pairs))
        return uuid

    def divide(self, number: int, *profiles: str) -> list[str]:
        """Divide a GPU that was added into MIG instances; return their UUIDs."""
        uuid, names = simulate.gpu_uuid(number), []
        for index, profile in enumerate(profiles):
            names.append(simulate.mig_uuid(number, index, profile))
            (self.folder / names[-1]).mkdir()
            pairs = simulate.first_instance_state(index, uuid, profile)
            self.write(names[-1], simulate.format_state(pairs))
        self.set(uuid, mig_mode="enabled")
        return names

    def write(self, uuid: str, text: str) -> None:
        """Replace a state file with any text, right or wrong."""
        simulate.write_whole(self.folder / uuid / "state", text)

    def set(self, uuid: str, **values: object) -> None:
        """Change values as ``simulate.py set`` does."""
        pairs = [f"{key}={value}" for key, value in values.items()]
        simulate.change(uuid, pairs, self.folder)

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which a process sees the simulated GPUs and no others."""
        return {
            **os.environ,
            "SIMULATED_GPUS_DIR": str(self.folder),
            "LD_LIBRARY_PATH": str(build_library().parent),
            "PYTHONPATH": str(ROOT),
        }

    def run_python(self, code: str) -> Any:  # noqa: ANN401 - JSON
        """Run Python in a fresh process that sees these GPUs; return the JSON it prints."""
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Let nvitop see these GPUs in the test's own process, and no thread of an agent afterwards."""
        ctypes.CDLL(str(build_library()))  # found again by its soname
        with mock.patch.dict(os.environ, {"SIMULATED_GPUS_DIR": str(self.folder)}):
            libnvml.nvmlInit()
            try:
                yield
            finally:
                libnvml.nvmlShutdown()
                for thread in threading.enumerate():
                    if thread.name == "xids":  # of an agent: it ends because NVML is closed
                        thread.join(30)
