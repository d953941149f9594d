"""Bodies: checks a posted create body against the one that policy builds.

Both have to be equal. The hub chooses only the values of a closed list of environment variables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from spawner.broker.errors import BrokerError
from spawner.policy.extras import HUB_VARIABLES

_MAX_VALUE_CHARACTERS = 4096


def parse_body(raw: bytes) -> dict[str, Any]:
    """Return the posted JSON object; raises BrokerError (400)."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BrokerError(400, "The create body is not JSON.") from error
    if not isinstance(body, dict):
        raise BrokerError(400, "The create body is not a JSON object.")
    return body


def read_label(body: Mapping[str, Any], label: str) -> str:
    """Return a label of a posted body, "" if it has no such label."""
    labels = body.get("Labels")
    value = labels.get(label) if isinstance(labels, dict) else None
    return value if isinstance(value, str) else ""


def read_hub_environment(body: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of a posted body that the hub may choose."""
    entries = body.get("Env")
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise BrokerError(403, "The broker refuses this container: Env is not a list of strings.")
    pairs = (entry.partition("=") for entry in entries)
    chosen = {name: value for name, _, value in pairs if name in HUB_VARIABLES}
    for name, value in chosen.items():
        if len(value) > _MAX_VALUE_CHARACTERS or not value.isprintable():
            raise BrokerError(
                403,
                f"The broker refuses this container: Env {name} is too long or not printable.",
            )
    return chosen


def require_equal(posted: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise BrokerError (403) with the first key, or variable, in which the bodies differ."""
    where = _first_difference(posted, expected, "")
    if where == "Env" and isinstance(posted.get("Env"), list):
        where = f"Env {_first_unexpected_variable(posted['Env'], expected['Env'])}".rstrip()
    if where is not None:
        raise BrokerError(
            403,
            f"The broker refuses this container: {where} differs from its lease and settings.",
        )


def _first_difference(posted: object, expected: object, where: str) -> str | None:
    if isinstance(posted, dict) and isinstance(expected, dict):
        for key in sorted(posted.keys() | expected.keys()):
            inner = f"{where}.{key[:60]}" if where else key[:60]
            if key not in posted or key not in expected:
                return inner
            found = _first_difference(posted[key], expected[key], inner)
            if found is not None:
                return found
        return None
    return None if type(posted) is type(expected) and posted == expected else where


def _first_unexpected_variable(posted: list[object], expected: list[str]) -> str:
    """Return the name, never the value, of the first unexpected entry."""
    unexpected = (str(entry) for entry in posted if entry not in expected)
    return next((entry.partition("=")[0][:60] for entry in unexpected), "")
