"""One fresh process stack per test; at its end the product's auditor finds nothing wrong."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from testing.process_stack import ProcessStack


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[ProcessStack]:
    """Return a process stack of two GPUs."""
    async with audited(ProcessStack(tmp_path, gpus=2)) as stack:
        yield stack


@pytest.fixture
async def one_gpu(tmp_path: Path) -> AsyncIterator[ProcessStack]:
    """Return a process stack of one GPU, so that its holder keeps all others waiting."""
    async with audited(ProcessStack(tmp_path, gpus=1)) as stack:
        yield stack


@asynccontextmanager
async def audited(stack: ProcessStack) -> AsyncIterator[ProcessStack]:
    async with stack:
        yield stack
        stack.engine.forget()
        for name in stack.processes:
            print(f"--- {name}\n{stack.log(name)}")  # noqa: T201 - shown where the test fails
        assert await stack.audit() == ()
