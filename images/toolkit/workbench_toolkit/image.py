"""Image: the folders of the image, and the folders in a home that belong to its release; imports nothing large."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PREFIX = Path("/opt/pytorch")
"""The image's Python environment. ``sys.prefix`` is another folder where a user's packages come first."""

LIBRARY = Path("lib", f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages")
"""The folder of the packages in every environment."""

_PACKAGES = "WB_PACKAGES"


def get_user_packages() -> Path | None:
    """Return the environment with the user's packages; None in a start without them."""
    folder = os.environ.get(_PACKAGES)
    return Path(folder) if folder else None
