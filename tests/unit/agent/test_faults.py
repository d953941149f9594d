"""Fatal Xids: received from the driver between samples, and reported by the next answer."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from nvitop import Device, libnvml

from simulation.host import SimulatedHost
from simulation.simulate import gpu_uuid
from spawner.agent import faults
from spawner.agent.faults import APPLICATION_XIDS, XidListener
from spawner.agent.nvml import Nvml
from spawner.agent.readings import Xid
from spawner.agent.sampler import Sampler
from spawner.agent.server import build_app
from testing.eventually import eventually_sync

FIRST, SECOND = gpu_uuid(0), gpu_uuid(1)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimulatedHost]:
    host = SimulatedHost(tmp_path / "gpus")
    host.add(0)
    host.add(1)
    with host.opened():
        yield host


def test_a_fatal_xid_is_received_with_its_time(host: SimulatedHost) -> None:
    nvml = Nvml()
    assert nvml.report().xids == {}
    before = time.time()
    host.set(SECOND, xid=79)
    eventually_sync(lambda: nvml.report().xids)
    xids = nvml.report().xids
    assert list(xids) == [SECOND]
    assert xids[SECOND].number == 79
    assert before <= xids[SECOND].at <= time.time()


def test_the_last_of_several_counts_and_stays(host: SimulatedHost) -> None:
    nvml = Nvml()
    nvml.report()
    host.set(FIRST, xid=48)
    eventually_sync(lambda: nvml.report().xids)
    earlier = nvml.report().xids[FIRST]
    host.set(FIRST, xid=79)
    eventually_sync(lambda: nvml.report().xids[FIRST].number == 79)
    assert nvml.report().xids[FIRST].at > earlier.at
    host.set(FIRST, xid=0)
    assert nvml.report().xids[FIRST].number == 79


def test_what_a_program_brought_about_is_not_fatal(host: SimulatedHost) -> None:
    nvml = Nvml()
    nvml.report()
    for number in sorted(APPLICATION_XIDS):
        host.set(FIRST, xid=number)
        time.sleep(0.05)  # that each is an event of its own
    host.set(SECOND, xid=79)  # heard after all of them
    eventually_sync(lambda: nvml.report().xids)
    assert list(nvml.report().xids) == [SECOND]


def test_a_lost_gpu_still_states_which_it_was(host: SimulatedHost) -> None:
    nvml = Nvml()
    nvml.report()
    host.set(FIRST, health="lost", xid=79)
    eventually_sync(lambda: nvml.report().xids)
    assert nvml.report().xids[FIRST].number == 79


def test_a_gpu_without_such_events_is_silent(host: SimulatedHost) -> None:
    host.set(FIRST, xid="unsupported")
    nvml = Nvml()
    nvml.report()
    host.set(FIRST, xid=79)
    host.set(SECOND, xid=79)
    eventually_sync(lambda: nvml.report().xids)
    assert list(nvml.report().xids) == [SECOND]


def test_where_no_gpu_has_such_events_no_one_waits(host: SimulatedHost) -> None:
    for uuid in (FIRST, SECOND):
        host.set(uuid, xid="unsupported")
    waiting = {thread for thread in threading.enumerate() if thread.name == "xids"}
    XidListener().listen({FIRST: Device(0), SECOND: Device(1)})
    assert {thread for thread in threading.enumerate() if thread.name == "xids"} <= waiting


def test_a_gpu_found_later_is_listened_to(host: SimulatedHost) -> None:
    host.set(FIRST, health="lost")
    nvml = Nvml()
    nvml.report()
    host.set(FIRST, health="ok")
    nvml._retry_at = 0
    nvml.report()
    host.set(FIRST, xid=74)
    eventually_sync(lambda: nvml.report().xids)
    assert nvml.report().xids[FIRST].number == 74


def test_a_wait_that_fails_is_tried_again(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wait, failed = libnvml.nvmlEventSetWait_v2, threading.Event()

    def fail_first(*arguments: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise libnvml.NVMLError_GpuIsLost
        return wait(*arguments)

    monkeypatch.setattr(libnvml, "nvmlEventSetWait_v2", fail_first)
    monkeypatch.setattr(faults, "_PAUSE_SECONDS", 0)
    nvml = Nvml()
    nvml.report()
    assert failed.wait(30)
    with caplog.at_level(logging.WARNING):
        host.set(FIRST, xid=79)
        eventually_sync(lambda: nvml.report().xids)
    assert [r.getMessage() for r in caplog.records] == [f"gpu={FIRST} state=failed reason=xid_79"]


def test_the_thread_ends_when_nvml_is_closed(tmp_path: Path) -> None:
    host = SimulatedHost(tmp_path / "gpus")
    host.add(0)
    with host.opened():
        earlier = set(threading.enumerate())
        Nvml().report()
        (thread,) = set(threading.enumerate()) - earlier
        assert thread.daemon
    thread.join(30)
    assert not thread.is_alive()


def test_the_thread_never_opens_nvml_again(tmp_path: Path) -> None:
    host = SimulatedHost(tmp_path / "gpus")
    host.add(0)
    found = XidListener()
    with host.opened():
        found.listen({FIRST: Device(0)})
    late = threading.Thread(target=found._receive, daemon=True)
    late.start()
    late.join(30)
    assert not late.is_alive()
    with pytest.raises(libnvml.NVMLError_Uninitialized):
        libnvml.nvmlShutdown()


def test_each_gpu_is_registered_once(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    query, registered = libnvml.nvmlQuery, []

    def count(call: str, *arguments: Any, **options: Any) -> Any:
        if call == "nvmlDeviceRegisterEvents":
            registered.append(arguments[0])
        return query(call, *arguments, **options)

    monkeypatch.setattr(libnvml, "nvmlQuery", count)
    found = XidListener()
    for _ in range(3):
        found.listen({FIRST: Device(0), SECOND: Device(1)})
    assert len(registered) == 2


def test_a_handle_that_no_one_registered_is_identified(host: SimulatedHost) -> None:
    found = XidListener()
    found.listen({FIRST: Device(0), SECOND: Device(1)})
    found._uuids.clear()
    host.set(SECOND, xid=95)
    eventually_sync(found.last_fatal)
    assert list(found.last_fatal()) == [SECOND]
    assert isinstance(found.last_fatal()[SECOND], Xid)


async def test_an_asker_every_two_seconds_receives_every_fault(host: SimulatedHost) -> None:
    async with TestClient(TestServer(build_app(Sampler(Nvml().report)))) as client:
        await client.get("/inventory")
        host.set(FIRST, xid=79)
        host.set(SECOND, health="lost")
        for _ in range(15):
            await asyncio.sleep(2)
            first, second = (await (await client.get("/inventory")).json())["gpus"]
            if first["xid"] is not None:
                break
    assert (first["xid"], first["health"]) == (79, "ok")
    assert first["xid_at"] <= time.time()
    assert (second["xid"], second["xid_at"], second["health"]) == (None, None, "lost")
