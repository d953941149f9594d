"""Bounds file: reads the admin's `bounds.toml`; no file means that nothing is allowed beyond the settings.

``python -m spawner.bounds_file`` prints the folders, for `scripts/up` to show them to the broker.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

from spawner.model import SettingsError
from spawner.policy.bounds import Bounds, parse_bounds
from spawner.settings import Settings

BOUNDS_FILE = "bounds.toml"
FOLDER = Path("/etc/workbench/config")


def load_bounds(file: Path, instance: str) -> Bounds:
    """Return the bounds of ``file``; raises SettingsError."""
    try:
        raw = tomllib.loads(file.read_text())
    except FileNotFoundError:
        return Bounds()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{BOUNDS_FILE} cannot be read: {str(error).rstrip('.')}.") from error
    return parse_bounds(raw, instance)


if __name__ == "__main__":
    try:
        settings = Settings.from_environ(os.environ)
        folders = load_bounds(FOLDER / BOUNDS_FILE, settings.instance).folders
    except SettingsError as error:
        sys.exit(str(error))
    sys.stdout.writelines(f"{folder}\n" for folder in folders)
