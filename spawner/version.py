"""Version: reads the product's version, which pyproject.toml states."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTION = "gpu-workbench"


def _read_version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        # a checkout that is not installed
        project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())
        return str(project["project"]["version"])


VERSION = _read_version()
