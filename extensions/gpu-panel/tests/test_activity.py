"""Activity reports: from real kernels and terminals, and from unreadable ones."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import eventually
from fake_hub import FakeHub
from gpu_panel.activity import PERIOD_SECONDS, Reporter, now, read_activity
from gpu_panel.hub import Hub
from gpu_panel.lease import LeaseWatch
from gpu_panel.notices import Notices

GOLDEN = json.loads(
    (Path(__file__).parents[3] / "tests" / "contract" / "panel-activity.json").read_text()
)
Fetch = Callable[..., Awaitable[Any]]
QUICK_SECONDS = 0.02


def make_reporter(
    hub: FakeHub, period_seconds: float = QUICK_SECONDS, notices: Notices | None = None
) -> Reporter:
    log = logging.getLogger("test")
    watch = LeaseWatch(Hub.from_environment(hub.environment), log)
    return Reporter(watch, lambda: read_activity({}, now()), log, period_seconds, notices)


async def test_an_unused_server_is_quiet_since_its_start(jp_serverapp: Any) -> None:
    settings = jp_serverapp.web_app.settings
    later = now() + timedelta(seconds=1000)
    activity = read_activity(settings, later)
    assert activity.busy_kernels == 0
    assert 999 < (activity.kernels_quiet_seconds or 0) < 1100
    assert 999 < (activity.terminals_quiet_seconds or 0) < 1100


async def test_a_kernel_that_computes_without_output_is_busy(jp_serverapp: Any) -> None:
    kernels = jp_serverapp.kernel_manager
    kernel_id = await kernels.start_kernel(kernel_name="echo")
    kernel = kernels.get_kernel(kernel_id)
    settings = jp_serverapp.web_app.settings
    kernel.execution_state = "busy"
    assert read_activity(settings, now()).busy_kernels == 1
    kernel.execution_state = "idle"
    later = now() + timedelta(seconds=500)
    activity = read_activity(settings, later)
    assert activity.busy_kernels == 0
    assert 499 < (activity.kernels_quiet_seconds or 0) < 600
    await kernels.shutdown_kernel(kernel_id, now=True)


def test_an_unreadable_activity_is_unknown() -> None:
    activity = read_activity({"terminals_available": True}, now())
    assert activity.busy_kernels is None
    assert activity.kernels_quiet_seconds is None
    assert activity.terminals_quiet_seconds is None


async def test_reports_are_rare_without_gpus_until_there_is_a_notice(
    hub: FakeHub, tmp_path: Path
) -> None:
    notices = Notices(tmp_path / "none")
    task = asyncio.create_task(make_reporter(hub, notices=notices).run())
    await eventually(lambda: len(hub.requests) >= 2)
    assert {request.path for request in hub.requests} == {
        "/hub/api/workbench/servers/b%C3%BCro%2F2/activity"
    }
    assert json.loads(hub.requests[0].body).keys() == GOLDEN.keys(), "the hub reads these"
    hub.lease["gpus"] = 0
    count = len(hub.requests)
    await eventually(lambda: len(hub.requests) > count)
    await asyncio.sleep(10 * QUICK_SECONDS)
    count = len(hub.requests)
    await asyncio.sleep(10 * QUICK_SECONDS)
    assert len(hub.requests) == count
    notices.add("A process was ended.")
    await eventually(lambda: len(hub.requests) > count)
    assert json.loads(hub.requests[-1].body)["notices"] == ["A process was ended."]
    task.cancel()


async def test_a_failing_hub_does_not_end_the_reports(hub: FakeHub) -> None:
    hub.refusal = (500, "")
    task = asyncio.create_task(make_reporter(hub).run())
    await eventually(lambda: len(hub.requests) >= 2)
    assert not task.done()
    task.cancel()


async def test_reports_are_more_frequent_before_an_idle_release(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu_panel.activity.IDLE_PERIOD_SECONDS", QUICK_SECONDS)
    hub.lease["idle_seconds_left"] = 800
    task = asyncio.create_task(make_reporter(hub, PERIOD_SECONDS).run())
    await eventually(lambda: len(hub.requests) >= 3)
    task.cancel()


@pytest.fixture
def jp_environ(jp_environ: None, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start this test's server with the environment of the hub."""
    for name, value in hub.environment.items():
        monkeypatch.setenv(name, value)


async def test_a_keep_alive_reaches_the_hub(jp_fetch: Fetch, hub: FakeHub) -> None:
    hub.lease["idle_seconds_left"] = 800
    answer = await jp_fetch("gpu-panel", "keep-alive", method="POST", body="{}")
    assert json.loads(answer.body)["idle_seconds_left"] is None
    assert hub.requests[-1].path.endswith("/keep-alive")
    hub.refusal = (403, '{"message": "No."}')
    refused = await jp_fetch("gpu-panel", "keep-alive", method="POST", body="{}", raise_error=False)
    assert (refused.code, json.loads(refused.body)) == (403, {"message": "No."})


async def test_the_server_starts_its_reports(jp_serverapp: Any, hub: FakeHub) -> None:
    await jp_serverapp.extension_manager.start_all_extensions()
    await eventually(lambda: bool(hub.requests))
    jp_serverapp.web_app.settings["gpu_panel_reporting"].cancel()
    assert hub.requests[0].path.endswith("/activity")
