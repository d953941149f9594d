"""Fixtures: a Jupyter server with the extension and scripted readings.

The sampler's period is short and the reader is replaced; everything else is the extension's own code.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from fake_hub import FakeHub
from gpu_panel import nvml, sampler
from gpu_panel.message import GpuHealth, GpuReading, Reading
from traitlets.config import Config

pytest_plugins = ["pytest_jupyter.jupyter_server"]

PERIOD_SECONDS = 0.02
DEADLINE_SECONDS = 20.0


class ScriptedReader:
    """Replaces ``NvmlReader``: returns the same GPUs each time, and records its calls and threads."""

    def __init__(self) -> None:
        self.count = 0
        self.gpus = 2
        self.threads: set[int] = set()

    def __call__(self) -> Reading:
        """Return a reading of ``gpus`` GPUs."""
        self.count += 1
        self.threads.add(threading.get_ident())
        return Reading(time.time(), tuple(make_gpu(index) for index in range(self.gpus)))


def make_gpu(index: int, health: GpuHealth = GpuHealth.OK) -> GpuReading:
    """Return the reading of a healthy GPU, or of one without values."""
    is_ok = health is GpuHealth.OK
    return GpuReading(
        uuid=f"GPU-51a0c0de-0000-4000-8000-{index:012x}",
        index=index,
        name="NVIDIA A100-SXM4-80GB (simulated)",
        health=health,
        memory_used_bytes=12884901888 if is_ok else None,
        memory_total_bytes=85899345920 if is_ok else None,
        temperature_celsius=54 if is_ok else None,
        utilization_percent=87 if is_ok else None,
        power_watts=251.5 if is_ok else None,
        power_limit_watts=400.0 if is_ok else None,
    )


async def eventually(is_true: Callable[[], bool]) -> None:
    """Wait until ``is_true``, or fail at the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline, "the condition stayed false"
        await asyncio.sleep(PERIOD_SECONDS)


@pytest.fixture
def hub(jp_asyncio_loop: asyncio.AbstractEventLoop) -> Iterator[FakeHub]:
    """Return a listening hub."""
    hub = FakeHub()
    yield jp_asyncio_loop.run_until_complete(hub.open())
    jp_asyncio_loop.run_until_complete(hub.close())


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> ScriptedReader:
    """Return the reader of this test's server."""
    scripted = ScriptedReader()
    quick = partial(sampler.Sampler, period_seconds=PERIOD_SECONDS)
    monkeypatch.setattr(nvml, "NvmlReader", lambda: scripted)
    monkeypatch.setattr(sampler, "Sampler", quick)
    return scripted


@pytest.fixture
def jp_server_config(reader: ScriptedReader) -> Config:
    """Return the configuration from the wheel."""
    return Config({"ServerApp": {"jpserver_extensions": {"gpu_panel": True}}})
