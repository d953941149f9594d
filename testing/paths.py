"""Folders of the repository that tests and benchmarks read."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTRACT = ROOT / "tests" / "contract"
