"""How large a proof is: quick at every commit, large in ``scripts/test nightly``, and otherwise the same.

Nothing but numbers may depend on it.
"""

from __future__ import annotations

import os
from typing import TypeVar

_T = TypeVar("_T")

IS_NIGHTLY = os.environ.get("TEST_SCALE") == "nightly"


def at_scale(quick: _T, nightly: _T) -> _T:
    """Return the number for this run."""
    return nightly if IS_NIGHTLY else quick
