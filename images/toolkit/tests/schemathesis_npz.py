"""Schemathesis hook: valid .npz bodies for the model of words and weights, which OpenAPI cannot describe."""

from __future__ import annotations

import io

import numpy as np
import schemathesis
from hypothesis import strategies


def build_npz(rows: int, token: int, weight: float, ticket: int, is_compressed: bool) -> bytes:
    """Return a valid body of ``rows`` equal rows."""
    file = io.BytesIO()
    save = np.savez_compressed if is_compressed else np.savez
    save(
        file,
        tokens=np.full((rows, 6), token),
        weight=np.full(rows, weight, "float32"),
        ticket=np.full(rows, ticket),
    )
    return file.getvalue()


schemathesis.openapi.media_type(
    "application/x-npz",
    strategies.builds(
        build_npz,
        strategies.integers(1, 32),
        strategies.integers(0, 49),
        strategies.floats(width=32, allow_nan=False, allow_infinity=False),
        strategies.integers(-(2**63), 2**63 - 1),
        strategies.booleans(),
    ),
)
