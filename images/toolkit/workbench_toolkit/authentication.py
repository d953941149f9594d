"""Authentication check: a Jupyter server extension that ends a server without authentication.

A server needs a token, a password or the hub, whatever its flags and settings are.
"""

from __future__ import annotations

import sys
from typing import Any

SENTENCE = "error: this server has no authentication: set a token or a password, or remove both for a new token.\n"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Return the extension's module."""
    return [{"module": "workbench_toolkit.authentication"}]


def _load_jupyter_server_extension(app: Any) -> None:  # noqa: ANN401 - the toolkit does not need Jupyter
    """End a server without authentication before it listens."""
    if not app.identity_provider.auth_enabled:
        sys.stderr.write(SENTENCE)
        sys.exit(1)
