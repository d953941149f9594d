"""A Jupyter server extension that ends a server which anybody could use.

A token, a password or the hub: one of them is always asked for, whatever flags and settings say.
"""

from __future__ import annotations

import sys
from typing import Any

SENTENCE = "error: this server would let anybody in: give it a token or a password, or name neither and get a token.\n"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Tell Jupyter where the extension is."""
    return [{"module": "workbench_toolkit.authentication"}]


def _load_jupyter_server_extension(app: Any) -> None:  # noqa: ANN401 - the toolkit does not need Jupyter
    """End the server before it listens when it asks for nothing."""
    if not app.identity_provider.auth_enabled:
        sys.stderr.write(SENTENCE)
        sys.exit(1)
