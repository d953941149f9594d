"""One fresh town per test; at its end the product's auditor finds nothing wrong."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.town import Town


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    """Return a town of two GPUs."""
    async with audited(Town(tmp_path, gpus=2)) as town:
        yield town


@pytest.fixture
async def one_gpu(tmp_path: Path) -> AsyncIterator[Town]:
    """Return a town of one GPU: who keeps it keeps it from everybody."""
    async with audited(Town(tmp_path, gpus=1)) as town:
        yield town


@asynccontextmanager
async def audited(town: Town) -> AsyncIterator[Town]:
    async with town:
        yield town
        town.engine.forget()
        for name in town.processes:
            print(f"--- {name}\n{town.log(name)}")  # noqa: T201 - shown where the test fails
        assert await town.audit() == ()
