"""Stream message: equal to the golden sample in keys, values and types."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from conftest import make_gpu
from gpu_panel.message import GpuHealth, Lease, Reading, ServerReading, build_message

GOLDEN = Path(__file__).parents[3] / "tests" / "contract" / "panel-message.json"


def test_the_golden_sample_is_built_from_its_readings() -> None:
    golden = json.loads(GOLDEN.read_text())
    lost = make_gpu(0, GpuHealth.LOST)
    busy = replace(make_gpu(0), memory_used_bytes=10737418240)
    history = [
        Reading(1794999998.25, (replace(busy, temperature_celsius=52, utilization_percent=85),)),
        Reading(1794999999.25, (lost,)),
    ]
    now = Reading(1795000000.25, (make_gpu(0), make_gpu(1, GpuHealth.LOST)))
    lease = Lease("running", 2, 8040.5, 24.0, None, None, None, True, 4939212390, 5368709120)
    server = ServerReading(1.25, 4.0, 6442450944, 17179869184, 107374182400, 1099511627776)
    notices = ["The folder ~/.jupyter cannot be used."]
    message = json.loads(build_message(now, 1.0, history, lease, server, notices))
    assert message == golden
    assert types_of(message) == types_of(golden)


def test_no_gpu_is_not_an_error() -> None:
    message = json.loads(build_message(Reading(1795000000.25), 1.0))
    assert (message["gpus"], message["error"], message["history"]) == ([], None, [])


def test_only_a_name_with_the_suffix_is_simulated() -> None:
    assert make_gpu(0).is_simulated
    assert not replace(make_gpu(0), name="NVIDIA A100-SXM4-80GB").is_simulated
    assert not replace(make_gpu(0), name=None).is_simulated


def test_a_gpu_without_a_uuid_has_no_history() -> None:
    nameless = Reading(1794999999.25, (replace(make_gpu(0), uuid=None),))
    message = json.loads(build_message(nameless, 1.0, [nameless]))
    assert message["history"] == []
    assert message["gpus"][0]["uuid"] is None


def types_of(value: object) -> object:
    """Return ``value`` with every leaf replaced by its type: ``1`` and ``1.0`` are equal, too."""
    if isinstance(value, dict):
        return {key: types_of(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [types_of(inner) for inner in value]
    return type(value).__name__
