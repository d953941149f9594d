"""Durations are said in the same words by the hub and by the panel in JupyterLab."""

import json
from pathlib import Path

import pytest

from spawner.policy.words import say_duration

DURATIONS = Path(__file__).parents[1] / "contract" / "panel-durations.json"


@pytest.mark.parametrize("said", json.loads(DURATIONS.read_text()))
def test_a_duration_is_said_as_agreed(said: dict[str, object]) -> None:
    assert say_duration(said["seconds"]) == said["words"]  # type: ignore[arg-type]
