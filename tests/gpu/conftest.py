"""Real GPUs for tests that cannot pass on a CPU; without one they are skipped, and it is said at the end.

With ``--require-gpu`` a skip is a failure.
"""

from __future__ import annotations

import pytest
import torch
from _pytest.terminal import TerminalReporter

NO_GPU = "NO GPU: nothing of this was tested"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-gpu", action="store_true", help="fail where there is no GPU")


@pytest.fixture(autouse=True)
def gpus(request: pytest.FixtureRequest) -> int:
    """Return how many GPUs CUDA can use; without one the test ends here."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0 and request.config.getoption("--require-gpu"):
        pytest.fail(NO_GPU)
    if count == 0:
        pytest.skip(NO_GPU)
    return count


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    skipped = len(terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.section("NO GPU", sep="!", red=True, bold=True)
        terminalreporter.write_line(
            f"{skipped} tests did not run: what they prove is unknown here. --require-gpu makes this a failure."
        )
