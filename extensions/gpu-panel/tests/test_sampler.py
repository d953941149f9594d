"""Sampler: one loop for all clients, its start, its stop and its messages."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import Any

import pytest
from conftest import PERIOD_SECONDS, ScriptedReader, eventually, make_gpu
from fake_hub import FakeHub
from gpu_panel import sampler as module
from gpu_panel.hub import Hub
from gpu_panel.lease import LeaseWatch
from gpu_panel.message import Reading

LOG = logging.getLogger("test")
NO_LEASE = LeaseWatch(None, LOG)


class Listener:
    """A client that keeps its messages."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def deliver(self, message: bytes) -> None:
        """Keep ``message``."""
        self.messages.append(json.loads(message))


@pytest.fixture
def scripted() -> ScriptedReader:
    """Return a reader for a sampler without a server."""
    return ScriptedReader()


@pytest.fixture
def sampler(scripted: ScriptedReader) -> module.Sampler:
    """Return a quick sampler on ``scripted``."""
    return module.Sampler(scripted, NO_LEASE, LOG, PERIOD_SECONDS)


async def test_the_first_client_starts_it_and_the_last_one_stops_it(
    sampler: module.Sampler, scripted: ScriptedReader
) -> None:
    first, second = Listener(), Listener()
    assert not sampler.is_running
    sampler.join(first)
    sampler.join(second)
    await eventually(lambda: len(second.messages) >= 3)
    sampler.leave(first)
    assert sampler.is_running
    sampler.leave(second)
    assert not sampler.is_running
    await asyncio.sleep(2 * PERIOD_SECONDS)
    count = scripted.count
    await asyncio.sleep(10 * PERIOD_SECONDS)
    assert scripted.count == count
    sampler.join(first)
    await eventually(lambda: scripted.count > count)
    sampler.leave(first)


async def test_one_reading_serves_all_clients(
    sampler: module.Sampler, scripted: ScriptedReader
) -> None:
    listeners = [Listener() for _ in range(20)]
    for listener in listeners:
        sampler.join(listener)
    await eventually(lambda: len(listeners[-1].messages) >= 5)
    for listener in listeners:
        sampler.leave(listener)
    assert {len(listener.messages) for listener in listeners} <= {
        scripted.count,
        scripted.count - 1,
    }


async def test_readings_are_made_off_the_event_loop_in_one_thread(
    sampler: module.Sampler, scripted: ScriptedReader
) -> None:
    listener = Listener()
    sampler.join(listener)
    await eventually(lambda: len(listener.messages) >= 5)
    sampler.leave(listener)
    assert len(scripted.threads) == 1
    assert threading.get_ident() not in scripted.threads


async def test_a_blocked_reader_does_not_block_the_loop() -> None:
    free = threading.Event()

    def hang() -> Reading:
        free.wait(10)
        return Reading(1.0)

    sampler = module.Sampler(hang, NO_LEASE, LOG, PERIOD_SECONDS)
    listener = Listener()
    sampler.join(listener)
    ticks = 0
    for _ in range(10):
        await asyncio.sleep(PERIOD_SECONDS)
        ticks += 1
    assert (ticks, listener.messages) == (10, [])
    free.set()
    await eventually(lambda: len(listener.messages) >= 1)
    sampler.leave(listener)


async def test_a_new_client_gets_a_bounded_history_once() -> None:
    times = iter(range(0, 10_000, 60))
    sampler = module.Sampler(
        lambda: Reading(float(next(times)), (make_gpu(0),)), NO_LEASE, LOG, 0.001
    )
    first, second = Listener(), Listener()
    sampler.join(first)
    await eventually(lambda: len(first.messages) >= 12)
    sampler.join(second)
    await eventually(lambda: len(second.messages) >= 2)
    sampler.leave(first)
    sampler.leave(second)
    past = second.messages[0]["history"][0]["sampled_at"]
    now = second.messages[0]["sampled_at"]
    assert past == [now - age for age in (300, 240, 180, 120, 60)]
    assert second.messages[1]["history"] == []
    assert first.messages[0]["history"] == []


async def test_the_history_survives_a_reload() -> None:
    times = iter(range(10_000))
    sampler = module.Sampler(
        lambda: Reading(float(next(times)), (make_gpu(0),)), NO_LEASE, LOG, 0.001
    )
    before, after = Listener(), Listener()
    sampler.join(before)
    await eventually(lambda: len(before.messages) >= 3)
    sampler.leave(before)
    sampler.join(after)
    await eventually(lambda: len(after.messages) >= 1)
    sampler.leave(after)
    assert after.messages[0]["history"][0]["sampled_at"][:3] == [0.0, 1.0, 2.0]


async def test_a_failing_reader_is_logged_and_the_next_client_starts_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[None] = []

    def fail_once() -> Reading:
        calls.append(None)
        if len(calls) == 1:
            raise ValueError
        return Reading(1.0)

    sampler = module.Sampler(fail_once, NO_LEASE, LOG, 10.0)
    first, second = Listener(), Listener()
    sampler.join(first)
    await eventually(lambda: not sampler.is_running)
    assert "sampler state=failed" in caplog.text
    sampler.join(second)
    await eventually(lambda: len(second.messages) == 1)
    sampler.leave(first)
    sampler.leave(second)


async def test_every_message_has_the_lease_from_one_request(
    scripted: ScriptedReader, hub: FakeHub
) -> None:
    lease = LeaseWatch(Hub.from_environment(hub.environment), LOG)
    sampler = module.Sampler(scripted, lease, LOG, PERIOD_SECONDS)
    listeners = [Listener() for _ in range(20)]
    for listener in listeners:
        sampler.join(listener)
    await eventually(lambda: len(listeners[-1].messages) >= 10)
    for listener in listeners:
        sampler.leave(listener)
    for message in listeners[-1].messages:
        assert message["lease"]["gpu_count"] == 2
        assert 8000 < message["lease"]["seconds_left"] <= 8040
    assert len(hub.requests) == 1, "not once per client, and not once per message"


async def test_without_a_hub_there_is_no_lease_in_the_message(sampler: module.Sampler) -> None:
    listener = Listener()
    sampler.join(listener)
    await eventually(lambda: len(listener.messages) >= 1)
    sampler.leave(listener)
    assert listener.messages[0]["lease"] is None
