"""``workbench config``: checks the settings and the site files, and starts nothing."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

from spawner.commands.noun import Noun


def add_config_noun(nouns: Any) -> Noun:  # noqa: ANN401 - argparse keeps the type to itself
    """Add the noun to the command line."""
    noun = Noun(nouns, "config", "check the settings and the site files")
    noun.add_verb("check", "print what the hub comes to, or the first mistake", _check)
    return noun


def _check(_flags: argparse.Namespace) -> int:
    # a process of its own: JupyterHub's set-up changes the process that does it
    command = [sys.executable, "-m", "spawner.hub.config_check"]
    return subprocess.run(command, check=False).returncode  # noqa: S603
