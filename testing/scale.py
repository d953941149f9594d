"""How large a proof is: quick at every commit, large in ``scripts/test nightly``, and otherwise the same.

Nothing but numbers may depend on it.
"""

from __future__ import annotations

import os

IS_NIGHTLY = os.environ.get("TEST_SCALE") == "nightly"


def at_scale(quick: int, nightly: int) -> int:
    """Return the number for this run."""
    return nightly if IS_NIGHTLY else quick
