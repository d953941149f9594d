"""Start marker: a Jupyter server extension that removes the file which says that a start is not complete.

The entrypoint writes the file, and a later start that finds it ignores the user's settings of Jupyter.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Return the extension's module."""
    return [{"module": "workbench_toolkit.start_marker"}]


def _load_jupyter_server_extension(app: Any) -> None:  # noqa: ANN401 - the toolkit does not need Jupyter
    """Remove the file as soon as the server runs."""
    if marker := os.environ.get("WB_START_MARKER"):
        app.io_loop.add_callback(Path(marker).unlink, missing_ok=True)
