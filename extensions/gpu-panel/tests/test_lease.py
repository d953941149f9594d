"""Lease watch: rare requests, a local countdown, and no blocked event loop."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from conftest import eventually
from fake_hub import FakeHub, RecordedRequest
from gpu_panel import hub as hub_module
from gpu_panel import lease as module
from gpu_panel.hub import Hub, HubError
from gpu_panel.lease import LeaseWatch
from gpu_panel.message import Lease

LOG = logging.getLogger("test")
PERIOD_SECONDS = 0.03
KNOWN = Lease("running", 2, 8040, 24.0, None, None, None, True)


class Clock:
    """Replaces ``time.monotonic``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def watch(
    hub: FakeHub, clock: Callable[[], float] = time.monotonic, period_seconds: float = 600.0
) -> LeaseWatch:
    """Return a watch with a long period, or with ``period_seconds``."""
    return LeaseWatch(Hub.from_environment(hub.environment), LOG, period_seconds, clock)


async def test_the_view_is_the_hubs_answer(hub: FakeHub, clock: Clock) -> None:
    lease = watch(hub, clock)
    assert lease.view() is None
    async with lease.watching():
        assert lease.view() == KNOWN
    path = "/hub/api/workbench/servers/b%C3%BCro%2F2/lease"
    assert hub.requests == [RecordedRequest("GET", path, "token secret", "")]


async def test_it_counts_down_without_requests(hub: FakeHub, clock: Clock) -> None:
    lease = watch(hub, clock)
    async with lease.watching():
        clock.now += 8000
        assert lease.view() == replace(KNOWN, seconds_left=40)
        clock.now += 41
        assert lease.view() == replace(KNOWN, seconds_left=-1)
    assert len(hub.requests) == 1


def test_its_default_clock_is_monotonic() -> None:
    assert inspect.signature(LeaseWatch).parameters["clock"].default is time.monotonic


async def test_the_time_of_the_answer_is_not_added(hub: FakeHub, clock: Clock) -> None:
    hub.is_silent = True
    lease = watch(hub, clock)
    async with lease.watching():
        await eventually(lambda: len(hub.requests) == 1)
        clock.now += 3
        hub.is_silent = False
        await eventually(lambda: lease.view() is not None)
        assert lease.view() == replace(KNOWN, seconds_left=8037)


async def test_a_lease_without_an_end_and_no_lease(hub: FakeHub, clock: Clock) -> None:
    hub.lease |= {"gpus": 0, "seconds_left": None}
    lease = watch(hub, clock)
    async with lease.watching():
        clock.now += 100
        assert lease.view() == replace(KNOWN, gpu_count=0, seconds_left=None)
    hub.lease |= {"state": None}
    async with lease.watching():
        assert lease.view() == replace(KNOWN, state=None, gpu_count=0, seconds_left=None)


async def test_trouble_is_forwarded_and_optional(hub: FakeHub) -> None:
    hub.lease["trouble"] = "GPU 3 of this server failed (Xid 79): save your work."
    lease = watch(hub)
    async with lease.watching():
        assert view_of(lease).trouble == hub.lease["trouble"]
    del hub.lease["trouble"]
    async with lease.watching():
        assert view_of(lease).trouble is None


async def test_a_later_poll_finds_a_change(hub: FakeHub) -> None:
    lease = watch(hub, period_seconds=PERIOD_SECONDS)
    async with lease.watching():
        hub.lease["seconds_left"] = 80000
        await eventually(lambda: (view_of(lease).seconds_left or 0) > 70000)


async def test_polls_stop_with_the_last_client(hub: FakeHub) -> None:
    lease = watch(hub, period_seconds=PERIOD_SECONDS)
    async with lease.watching():
        await eventually(lambda: len(hub.requests) >= 3)
    await asyncio.sleep(2 * PERIOD_SECONDS)
    count = len(hub.requests)
    await asyncio.sleep(10 * PERIOD_SECONDS)
    assert len(hub.requests) == count


async def test_it_polls_at_the_end_of_the_lease(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXPIRED_PERIOD_SECONDS", PERIOD_SECONDS)
    hub.lease["seconds_left"] = 1
    lease = watch(hub)
    async with lease.watching():
        hub.lease["seconds_left"] = 3600
        await eventually(lambda: (view_of(lease).seconds_left or 0) > 3000)
        assert len(hub.requests) == 2
    hub.lease["seconds_left"] = 0
    async with lease.watching():
        await eventually(lambda: len(hub.requests) >= 6)


ANSWERS = [
    (500, "<html>"),
    (503, '{"message": "The ledger is busy."}'),
    (403, '{"message": "No."}'),
    (200, "not even JSON"),
    (200, "[]"),
    (200, '{"state": "running"}'),
    (200, json.dumps({"state": 1, "gpus": 1, "seconds_left": 1, "max_lease_hours": 1})),
    (200, json.dumps({"state": "running", "gpus": 1, "seconds_left": "9", "max_lease_hours": 1})),
    (200, '{"state": "running", "gpus": 1, "seconds_left": NaN, "max_lease_hours": 1}'),
]


@pytest.mark.parametrize("answer", ANSWERS)
async def test_an_invalid_answer_leaves_the_last_lease_unconfirmed(
    hub: FakeHub, clock: Clock, caplog: pytest.LogCaptureFixture, answer: tuple[int, str]
) -> None:
    lease = watch(hub, clock, PERIOD_SECONDS)
    async with lease.watching():
        hub.refusal = answer
        count = len(hub.requests)
        clock.now += 40
        await eventually(lambda: len(hub.requests) >= count + 5)
        assert lease.view() == replace(KNOWN, seconds_left=8000, confirmed=False)
        hub.refusal = None
        hub.lease["seconds_left"] = 7990
        await eventually(lambda: view_of(lease).confirmed)
        assert view_of(lease).seconds_left == 7990
    warnings = [record for record in caplog.records if record.name == LOG.name]
    assert len(warnings) == 1, "one line per outage"


async def test_a_closed_hub_leaves_the_countdown_running(hub: FakeHub, clock: Clock) -> None:
    lease = watch(hub, clock, PERIOD_SECONDS)
    async with lease.watching():
        await hub.close()
        await eventually(lambda: not view_of(lease).confirmed)
        clock.now += 40
        assert view_of(lease).seconds_left == 8000


async def test_without_any_answer_there_is_no_lease(hub: FakeHub) -> None:
    await hub.close()
    lease = watch(hub)
    async with lease.watching():
        assert lease.view() is None


async def test_a_silent_hub_delays_a_client_only_briefly(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(hub_module, "ANSWER_SECONDS", 0.3)
    lease = watch(hub)
    async with lease.watching():
        pass
    hub.is_silent = True
    async with lease.watching():
        # the lease of the last client's time is unconfirmed
        assert not view_of(lease).confirmed
        with pytest.raises(HubError, match="does not answer") as error:
            await lease.extend(1)
        assert error.value.status == 502


async def test_an_extension_is_visible_at_once(hub: FakeHub, clock: Clock) -> None:
    lease = watch(hub, clock)
    async with lease.watching():
        clock.now += 40
        hub.lease["seconds_left"] = 8000
        longer = await lease.extend(4)
        assert longer == lease.view() == replace(KNOWN, seconds_left=8000 + 4 * 3600)
    assert hub.requests[-1].body == '{"hours": 4}'


async def test_an_older_answer_never_overtakes_an_extension(hub: FakeHub) -> None:
    lease = watch(hub)
    async with lease.watching():
        pass
    hub.is_silent = True
    async with lease.watching():
        await eventually(lambda: len(hub.requests) == 2)
        extending = asyncio.ensure_future(lease.extend(4))
        await asyncio.sleep(0.05)
        assert [request.method for request in hub.requests] == ["GET", "GET"], "one at a time"
        hub.is_silent = False
        await extending
        assert view_of(lease).seconds_left == pytest.approx(8040 + 4 * 3600, abs=60)


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (
            (409, '{"status": 409, "message": "Others wait for GPUs."}'),
            409,
            "Others wait for GPUs.",
        ),
        ((400, '{"message": "Say by how many hours."}'), 400, "Say by how many hours."),
        ((503, '{"message": "The ledger is busy."}'), 502, "The ledger is busy."),
        ((404, "<html>"), 404, "The hub answered 404: try again in a moment."),
        ((500, '{"message": 7}'), 502, "The hub answered 500: try again in a moment."),
    ],
)
async def test_a_refusal_is_the_hubs_own_sentence_and_changes_nothing(
    hub: FakeHub, clock: Clock, answer: tuple[int, str], status: int, message: str
) -> None:
    lease = watch(hub, clock)
    async with lease.watching():
        hub.refusal = answer
        with pytest.raises(HubError) as error:
            await lease.extend(4)
        assert (error.value.status, error.value.message) == (status, message)
        assert lease.view() == KNOWN


async def test_outside_a_hub_there_is_no_lease() -> None:
    for environment in ({}, {"JUPYTERHUB_API_URL": "http://hub/hub/api"}):
        lease = LeaseWatch(Hub.from_environment(environment), LOG)
        async with lease.watching():
            assert lease.view() is None
        with pytest.raises(HubError, match="No hub started this server"):
            await lease.extend(1)


async def test_while_the_hub_is_silent_the_loop_goes_on(hub: FakeHub) -> None:
    hub.is_silent = True
    lease = watch(hub)
    with no_pause_longer_than(1.0):
        async with lease.watching():
            await asyncio.sleep(0.2)


def view_of(lease: LeaseWatch) -> Lease:
    """Return the current lease; fail without one."""
    found = lease.view()
    assert found is not None
    return found


@contextmanager
def no_pause_longer_than(seconds: float) -> Iterator[None]:
    """Fail when the running event loop was blocked longer than ``seconds``."""
    pauses: list[float] = []

    async def tick() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            pauses.append(time.monotonic() - began)

    task: Any = asyncio.ensure_future(tick())
    try:
        yield
    finally:
        task.cancel()
    assert len(pauses) > 5
    assert max(pauses) < seconds
