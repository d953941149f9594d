"""What the server knows of its lease: asked seldom, counted down here, never in anybody's way."""

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
from fake_hub import Asked, FakeHub
from gpu_panel import hub as hub_module
from gpu_panel import lease as module
from gpu_panel.hub import Hub, HubError
from gpu_panel.lease import LeaseWatch
from gpu_panel.message import Lease

LOG = logging.getLogger("test")
PERIOD_SECONDS = 0.03
KNOWN = Lease("running", 2, 8040, 24.0, None, None, None, True)


class Clock:
    """Stands for ``time.monotonic``."""

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
    """Return a watch that asks once, or as often as it is told."""
    return LeaseWatch(Hub.from_environment(hub.environment), LOG, period_seconds, clock)


async def test_it_tells_what_the_hub_says(hub: FakeHub, clock: Clock) -> None:
    lease = watch(hub, clock)
    assert lease.view() is None
    async with lease.watching():
        assert lease.view() == KNOWN
    path = "/hub/api/workbench/lease/b%C3%BCro%2F2"
    assert hub.asked == [Asked("GET", path, "token secret", "")]


async def test_it_counts_down_by_itself(hub: FakeHub, clock: Clock) -> None:
    lease = watch(hub, clock)
    async with lease.watching():
        clock.now += 8000
        assert lease.view() == replace(KNOWN, seconds_left=40)
        clock.now += 41
        assert lease.view() == replace(KNOWN, seconds_left=-1)
    assert len(hub.asked) == 1


def test_its_own_clock_is_one_that_nobody_sets() -> None:
    assert inspect.signature(LeaseWatch).parameters["clock"].default is time.monotonic


async def test_what_the_answer_took_is_not_added(hub: FakeHub, clock: Clock) -> None:
    hub.is_silent = True
    lease = watch(hub, clock)
    async with lease.watching():
        await eventually(lambda: len(hub.asked) == 1)
        clock.now += 3
        hub.is_silent = False
        await eventually(lambda: lease.view() is not None)
        assert lease.view() == replace(KNOWN, seconds_left=8037)


async def test_a_lease_without_an_end_and_one_that_is_none(hub: FakeHub, clock: Clock) -> None:
    hub.lease |= {"gpus": 0, "seconds_left": None}
    lease = watch(hub, clock)
    async with lease.watching():
        clock.now += 100
        assert lease.view() == replace(KNOWN, gpu_count=0, seconds_left=None)
    hub.lease |= {"state": None}
    async with lease.watching():
        assert lease.view() == replace(KNOWN, state=None, gpu_count=0, seconds_left=None)


async def test_trouble_is_passed_on_and_may_be_missing(hub: FakeHub) -> None:
    hub.lease["trouble"] = "GPU 3 of this server failed (Xid 79): save your work."
    lease = watch(hub)
    async with lease.watching():
        assert known(lease).trouble == hub.lease["trouble"]
    del hub.lease["trouble"]
    async with lease.watching():
        assert known(lease).trouble is None


async def test_it_asks_again_and_hears_of_what_others_did(hub: FakeHub) -> None:
    lease = watch(hub, period_seconds=PERIOD_SECONDS)
    async with lease.watching():
        hub.lease["seconds_left"] = 80000
        await eventually(lambda: (known(lease).seconds_left or 0) > 70000)


async def test_nobody_is_asked_once_nobody_looks(hub: FakeHub) -> None:
    lease = watch(hub, period_seconds=PERIOD_SECONDS)
    async with lease.watching():
        await eventually(lambda: len(hub.asked) >= 3)
    await asyncio.sleep(2 * PERIOD_SECONDS)
    count = len(hub.asked)
    await asyncio.sleep(10 * PERIOD_SECONDS)
    assert len(hub.asked) == count


async def test_at_the_end_it_asks_whether_it_is_the_end(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OVERTIME_SECONDS", PERIOD_SECONDS)
    hub.lease["seconds_left"] = 1
    lease = watch(hub)
    async with lease.watching():
        hub.lease["seconds_left"] = 3600
        await eventually(lambda: (known(lease).seconds_left or 0) > 3000)
        assert len(hub.asked) == 2
    hub.lease["seconds_left"] = 0
    async with lease.watching():
        await eventually(lambda: len(hub.asked) >= 6)


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
async def test_without_a_good_answer_the_last_one_goes_on_unconfirmed(
    hub: FakeHub, clock: Clock, caplog: pytest.LogCaptureFixture, answer: tuple[int, str]
) -> None:
    lease = watch(hub, clock, PERIOD_SECONDS)
    async with lease.watching():
        hub.refusal = answer
        count = len(hub.asked)
        clock.now += 40
        await eventually(lambda: len(hub.asked) >= count + 5)
        assert lease.view() == replace(KNOWN, seconds_left=8000, confirmed=False)
        hub.refusal = None
        hub.lease["seconds_left"] = 7990
        await eventually(lambda: known(lease).confirmed)
        assert known(lease).seconds_left == 7990
    said = [record for record in caplog.records if record.name == LOG.name]
    assert len(said) == 1, "one line, however often it failed"


async def test_a_hub_that_is_gone_leaves_the_countdown_going(hub: FakeHub, clock: Clock) -> None:
    lease = watch(hub, clock, PERIOD_SECONDS)
    async with lease.watching():
        await hub.close()
        await eventually(lambda: not known(lease).confirmed)
        clock.now += 40
        assert known(lease).seconds_left == 8000


async def test_a_hub_that_never_answered_leaves_nothing_known(hub: FakeHub) -> None:
    await hub.close()
    lease = watch(hub)
    async with lease.watching():
        assert lease.view() is None


async def test_a_silent_hub_holds_nobody_up_for_long(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(hub_module, "ANSWER_SECONDS", 0.3)
    lease = watch(hub)
    async with lease.watching():
        pass
    hub.is_silent = True
    async with lease.watching():
        # what was known when somebody looked last is not confirmed any more
        assert not known(lease).confirmed
        with pytest.raises(HubError, match="does not answer") as error:
            await lease.extend(1)
        assert error.value.status == 502


async def test_an_extension_is_known_at_once(hub: FakeHub, clock: Clock) -> None:
    lease = watch(hub, clock)
    async with lease.watching():
        clock.now += 40
        hub.lease["seconds_left"] = 8000
        longer = await lease.extend(4)
        assert longer == lease.view() == replace(KNOWN, seconds_left=8000 + 4 * 3600)
    assert hub.asked[-1].body == '{"hours": 4}'


async def test_an_older_answer_never_overtakes_an_extension(hub: FakeHub) -> None:
    lease = watch(hub)
    async with lease.watching():
        pass
    hub.is_silent = True
    async with lease.watching():
        await eventually(lambda: len(hub.asked) == 2)
        extending = asyncio.ensure_future(lease.extend(4))
        await asyncio.sleep(0.05)
        assert [asked.method for asked in hub.asked] == ["GET", "GET"], "one at a time"
        hub.is_silent = False
        await extending
        assert known(lease).seconds_left == pytest.approx(8040 + 4 * 3600, abs=60)


@pytest.mark.parametrize(
    ("answer", "status", "said"),
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
    hub: FakeHub, clock: Clock, answer: tuple[int, str], status: int, said: str
) -> None:
    lease = watch(hub, clock)
    async with lease.watching():
        hub.refusal = answer
        with pytest.raises(HubError) as error:
            await lease.extend(4)
        assert (error.value.status, error.value.message) == (status, said)
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


def known(lease: LeaseWatch) -> Lease:
    """Return what is known; fails where nothing is."""
    found = lease.view()
    assert found is not None
    return found


@contextmanager
def no_pause_longer_than(seconds: float) -> Iterator[None]:
    """Fail when the event loop of now stood still for so long."""
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
