"""Docker's events, directly and through the broker; a stream that breaks is reported as a gap."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest

from spawner.containers import ContainerEnd, Containers, EventGap
from spawner.policy.container import LABEL_INSTANCE, LABEL_LEASE, LABEL_ROLE, ROLE_SERVER
from testing.eventually import eventually
from testing.fakes.docker_engine import FakeEngine
from testing.fakes.docker_faults import Fault
from tests.unit.broker_env import INSTANCE, BrokerEnvironment, running_broker_env

LABELS = {LABEL_INSTANCE: INSTANCE, LABEL_ROLE: ROLE_SERVER, LABEL_LEASE: "1ea5e"}
Heard = list[ContainerEnd | EventGap]


@pytest.fixture
async def broker_env(tmp_path: Path) -> AsyncIterator[BrokerEnvironment]:
    async with running_broker_env(tmp_path) as broker_env:
        yield broker_env


@pytest.fixture(params=["direct", "broker"])
async def containers(broker_env: BrokerEnvironment, request: pytest.FixtureRequest) -> Containers:
    path = broker_env.engine.socket_path if request.param == "direct" else broker_env.socket_path
    return Containers(str(path), INSTANCE)


@pytest.fixture
async def heard(containers: Containers) -> AsyncIterator[Heard]:
    """All events since the stream was opened."""
    heard: Heard = []

    async def listen() -> None:
        async with aclosing(containers.watch()) as watch:  # type: ignore[type-var]
            async for told in watch:
                heard.append(told)

    listener = asyncio.create_task(listen())
    await eventually(lambda: heard == [EventGap()])
    yield heard
    assert not listener.done(), "it listens for ever"
    listener.cancel()


@pytest.fixture
def engine(broker_env: BrokerEnvironment) -> FakeEngine:
    broker_env.engine.add("wb-a", {"Labels": LABELS}, is_running=True)
    return broker_env.engine


def ended(exit_code: int | None, *, oom: bool = False, is_removed: bool = False) -> ContainerEnd:
    return ContainerEnd("wb-a", "1ea5e", exit_code, oom, is_removed)


async def test_an_end_is_reported_with_its_exit_code(engine: FakeEngine, heard: Heard) -> None:
    engine.end("wb-a", 3)
    await eventually(lambda: heard == [EventGap(), ended(3)])


async def test_running_out_of_memory_is_reported_with_the_end(
    engine: FakeEngine, heard: Heard
) -> None:
    engine.end("wb-a", 137, oom=True)
    await eventually(lambda: heard == [EventGap(), ended(137, oom=True)])


async def test_a_removal_is_reported(engine: FakeEngine, heard: Heard) -> None:
    engine.vanish("wb-a")
    await eventually(lambda: heard == [EventGap(), ended(137), ended(None, is_removed=True)])


@pytest.mark.parametrize(
    "labels", [{**LABELS, LABEL_INSTANCE: "other"}, {**LABELS, LABEL_ROLE: "prepare-home"}, {}]
)
async def test_others_ends_are_not_reported(
    engine: FakeEngine, heard: Heard, labels: dict[str, str]
) -> None:
    engine.add("other", {"Labels": labels}, is_running=True)
    engine.vanish("other")
    engine.end("wb-a", 0)
    await eventually(lambda: heard == [EventGap(), ended(0)])


async def test_a_stream_that_ended_is_a_gap_and_begins_anew(
    engine: FakeEngine, heard: Heard
) -> None:
    for gaps in (2, 3):
        engine.events.cut()
        await eventually(partial(heard.__eq__, [EventGap()] * gaps))
    engine.end("wb-a", 0)
    await eventually(lambda: heard[3:] == [ended(0)])


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.DROP, Fault.PAGE_NOT_FOUND, Fault.GARBAGE])
async def test_a_daemon_that_fails_is_retried(
    engine: FakeEngine, heard: Heard, fault: Fault
) -> None:
    engine.plan("events", fault, fault)
    engine.events.cut()
    await eventually(lambda: len(heard) >= 2 and engine.events.listeners > 0)
    engine.end("wb-a", 0)
    await eventually(lambda: heard[-1] == ended(0))
    assert set(heard[:-1]) == {EventGap()}


@pytest.mark.parametrize(
    "raw", [b"not JSON\n", b"[]\n", b'{"Action": "die"}\n', b'{"Action": "die", "Actor": null}\n']
)
async def test_what_cannot_be_read_is_a_gap(engine: FakeEngine, heard: Heard, raw: bytes) -> None:
    engine.events.write(raw)
    await eventually(lambda: heard == [EventGap(), EventGap()])
    await eventually(lambda: engine.events.listeners > 0)
    engine.end("wb-a", 0)
    await eventually(lambda: heard[2:] == [ended(0)])


async def test_an_event_in_two_pieces_is_one(
    engine: FakeEngine, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.broker.events.HEARTBEAT_SECONDS", 0.01)
    attributes = {**LABELS, "name": "wb-a", "exitCode": "1"}
    event = {"Action": "die", "Actor": {"ID": "1", "Attributes": attributes}}
    line = json.dumps(event).encode() + b"\n"
    engine.events.write(line[:40])
    await asyncio.sleep(0.1)  # ten heartbeats, none of which may come in between
    engine.events.write(line[40:])
    await eventually(lambda: heard == [EventGap(), ended(1)])


async def test_silence_is_a_gap(
    broker_env: BrokerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.containers.events.SILENCE_SECONDS", 0.1)
    watch = Containers(str(broker_env.socket_path), INSTANCE).watch()
    async with asyncio.timeout(5):
        assert [await anext(watch), await anext(watch)] == [EventGap(), EventGap()]
    await watch.aclose()  # type: ignore[attr-defined]


async def test_the_broker_breaks_the_silence(
    broker_env: BrokerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.containers.events.SILENCE_SECONDS", 1.0)
    monkeypatch.setattr("spawner.broker.events.HEARTBEAT_SECONDS", 0.05)
    watch = Containers(str(broker_env.socket_path), INSTANCE).watch()
    assert await anext(watch) == EventGap()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(watch), 2.0)


async def test_the_broker_filters_and_hangs_up_when_the_client_is_gone(
    broker_env: BrokerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.broker.events.HEARTBEAT_SECONDS", 0.02)
    response = await broker_env.http.get("events")
    assert response.status == 200
    broker_env.engine.add("x", {"Labels": {LABEL_INSTANCE: INSTANCE}}, is_running=True)
    broker_env.engine.vanish("x")
    broker_env.engine.add("wb-a", {"Labels": LABELS}, is_running=True)
    broker_env.engine.vanish("wb-a")
    told = [json.loads(line) for line in [await next_line(response) for _ in range(2)]]
    assert [(e["Action"], e["Actor"]["Attributes"]["name"]) for e in told] == [
        ("die", "wb-a"),
        ("destroy", "wb-a"),
    ]
    assert broker_env.broker.events.streams == 1
    response.close()
    await eventually(lambda: broker_env.broker.events.streams == 0)


async def test_a_broker_that_ends_waits_for_no_stream(broker_env: BrokerEnvironment) -> None:
    response = await broker_env.http.get("events")
    broker_env.broker.events.close()
    await eventually(lambda: broker_env.broker.events.streams == 0)
    response.close()


async def test_without_docker_there_are_no_events(broker_env: BrokerEnvironment) -> None:
    broker_env.engine.socket_path.unlink()
    assert (await broker_env.request("GET", "events"))[0] == 503


async def test_a_failing_docker_is_no_stream(broker_env: BrokerEnvironment) -> None:
    broker_env.engine.plan("events", Fault.ERROR)
    assert await broker_env.request("GET", "events") == (
        502,
        "Docker refused to stream its events.",
    )


async def next_line(response: object) -> bytes:
    async with asyncio.timeout(5):
        while not (line := await response.content.readline()).strip():  # type: ignore[attr-defined]
            pass
    return bytes(line)
