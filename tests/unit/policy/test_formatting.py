"""Formatting: hub and panel write a duration alike, and a trail entry names its subject."""

import json

import pytest

from spawner.policy.formatting import format_duration, format_subject
from testing.paths import CONTRACT

DURATIONS = CONTRACT / "panel-durations.json"


@pytest.mark.parametrize("said", json.loads(DURATIONS.read_text()))
def test_a_duration_is_reported_as_agreed(said: dict[str, object]) -> None:
    assert format_duration(said["seconds"]) == said["words"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (None, "lease 1"),
        ({"max_gpus": 2}, "lease 1"),
        ({"user": "li", "gpu_count": 1}, "lease 1 (li, 1 GPU)"),
        (
            {"user": "li", "gpu_count": 2, "mig_profile": "1g.10gb"},
            "lease 1 (li, 2 MIG instances 1g.10gb)",
        ),
    ],
)
def test_an_entry_about_a_lease_states_whose_and_what(
    after: dict[str, object] | None, said: str
) -> None:
    assert format_subject("lease 1", after) == said
