"""Counts what a layer's result files say: prints ``passed failed skipped``.

A file that is missing or cannot be read counts as one failure, so that a layer that broke is never silent.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

Counts = tuple[int, int, int]


def count_junit(path: Path) -> Counts:
    """Return the counts of pytest's JUnit XML; an error counts as a failure."""
    passed = failed = skipped = 0
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):  # noqa: S314
        bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        left = int(suite.get("skipped", 0))
        passed += int(suite.get("tests", 0)) - bad - left
        failed += bad
        skipped += left
    return passed, failed, skipped


def count_jest(path: Path) -> Counts:
    """Return the counts of jest's ``--json`` report; a suite that did not run counts as a failure."""
    report = json.loads(path.read_text())
    failed = report["numFailedTests"] + report["numRuntimeErrorTestSuites"]
    return report["numPassedTests"], failed, report["numPendingTests"] + report["numTodoTests"]


def count(path: Path) -> Counts:
    """Return the counts of one result file, or one failure when it cannot be read."""
    try:
        return count_jest(path) if path.suffix == ".json" else count_junit(path)
    except (OSError, ValueError, KeyError, ElementTree.ParseError):
        return 0, 1, 0


if __name__ == "__main__":
    totals = [sum(column) for column in zip(*(count(Path(p)) for p in sys.argv[1:]), strict=True)]
    print(*totals)
