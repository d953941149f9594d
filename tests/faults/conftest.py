"""One fresh town per test; at its end the product's auditor finds nothing wrong."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.town import Town


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with Town(tmp_path) as town:
        yield town
        for name in town.processes:
            print(f"--- {name}\n{town.log(name)}")  # noqa: T201 - shown where the test fails
        assert await town.audit() == ()
