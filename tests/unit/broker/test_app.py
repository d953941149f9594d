"""The broker's rules: fencing by the ledger, ownership by labels, and a status for each failure."""

import asyncio
import logging
import socket
import stat
from pathlib import Path

import pytest

from spawner.broker.__main__ import lazy_ledger
from spawner.containers import Containers
from spawner.ledger import Ledger
from spawner.model import (
    Cause,
    LaunchError,
    Lease,
    LeaseState,
    Unknown,
)
from testing.fakes.docker_container import FakeContainer
from testing.fakes.docker_faults import Fault
from tests.unit.broker_env import (
    FIRST_UID,
    IMAGE_ID,
    INSTANCE,
    TAG,
    BrokerEnvironment,
)


async def test_what_policy_builds_is_created_and_started(
    broker_env: BrokerEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "spawner.broker")
    containers = Containers(str(broker_env.socket_path), INSTANCE)
    assert await containers.image_id(TAG) == IMAGE_ID
    await containers.create(broker_env.name(), broker_env.body())
    await containers.start(broker_env.name())
    assert broker_env.engine.containers[broker_env.name()].body == broker_env.body()
    (server,) = await containers.list_servers()
    assert (server.name, server.is_running) == (broker_env.name(), True)
    assert await containers.log_tail(broker_env.name()) == ""
    await containers.remove(broker_env.name(), grace_seconds=1)
    await containers.close()
    changing = [line.message.partition("operation=")[2].split()[0] for line in caplog.records]
    assert changing == ["create", "start", "stop", "remove"]
    assert all(broker_env.name() in line.message for line in caplog.records)
    assert "secret-token" not in caplog.text


def close_lease(broker_env: BrokerEnvironment) -> None:
    broker_env.ledger.move(broker_env.lease, LeaseState.CLOSING, now=2.0, cause=Cause.USER)


@pytest.mark.parametrize(
    "state", [LeaseState.RUNNING, LeaseState.CLOSING, LeaseState.LOST, LeaseState.CLOSED]
)
async def test_a_lease_that_is_not_granted_neither_creates_nor_starts(
    broker_env: BrokerEnvironment, state: LeaseState
) -> None:
    assert (await broker_env.create(broker_env.body()))[0] == 201
    if state in (LeaseState.CLOSING, LeaseState.CLOSED):
        close_lease(broker_env)
    if state is not LeaseState.CLOSING:
        before = broker_env.ledger.lease(broker_env.lease.id)
        assert before is not None
        broker_env.ledger.move(before, state, now=3.0)
    sentence = f"Lease {broker_env.lease.id} is {state.value}: no container of it may start."
    assert await broker_env.request("POST", f"containers/{broker_env.name()}/start") == (
        409,
        sentence,
    )
    assert not broker_env.engine.containers[broker_env.name()].is_running
    del broker_env.engine.containers[broker_env.name()]
    assert await broker_env.create(broker_env.body()) == (409, sentence)
    assert broker_env.engine.containers == {}


async def test_the_hub_receives_the_fence_as_a_launch_error(broker_env: BrokerEnvironment) -> None:
    containers = Containers(str(broker_env.socket_path), INSTANCE)
    await containers.create(broker_env.name(), broker_env.body())
    close_lease(broker_env)
    with pytest.raises(LaunchError, match="is closing: no container of it may start"):
        await containers.start(broker_env.name())
    await containers.remove(broker_env.name(), grace_seconds=0)
    await containers.close()


async def test_a_container_without_a_lease_does_not_start(broker_env: BrokerEnvironment) -> None:
    labels = {"workbench.instance": INSTANCE, "workbench.role": "server"}
    broker_env.engine.containers["stray"] = FakeContainer("5", "stray", {"Labels": labels})
    assert (await broker_env.request("POST", "containers/stray/start"))[0] == 403
    assert not broker_env.engine.containers["stray"].is_running


FOREIGN = [
    {},
    {"workbench.instance": "other", "workbench.role": "server"},
    {"workbench.instance": INSTANCE},
    {"workbench.instance": INSTANCE, "workbench.role": "hub"},
]


@pytest.mark.parametrize("labels", FOREIGN)
async def test_a_foreign_container_is_not_touched_and_not_called_absent(
    broker_env: BrokerEnvironment, labels: dict[str, str]
) -> None:
    broker_env.engine.containers["x"] = FakeContainer("7", "x", {"Labels": labels}, is_running=True)
    for method, path in (
        ("GET", "containers/x/json"),
        ("GET", "containers/x/logs?stdout=1&tail=20"),
        ("POST", "containers/x/start"),
        ("POST", "containers/x/stop"),
        ("POST", "containers/x/wait"),
        ("DELETE", "containers/x"),
    ):
        assert await broker_env.request(method, path) == (403, "x is not a container of wb.")
    assert broker_env.engine.containers["x"].is_running
    assert {call for call, _ in broker_env.engine.calls} == {"inspect"}
    containers = Containers(str(broker_env.socket_path), INSTANCE)
    with pytest.raises(Unknown):
        await containers.inspect("x")
    await containers.close()


async def test_a_list_has_only_this_instances_containers(broker_env: BrokerEnvironment) -> None:
    broker_env.engine.containers["x"] = FakeContainer("7", "x", {"Labels": None})
    await broker_env.create(broker_env.body())
    async with broker_env.http.get("containers/json?all=1") as response:
        assert [row["Names"] for row in await response.json()] == [[f"/{broker_env.name()}"]]


async def test_dockers_own_answers_pass(broker_env: BrokerEnvironment) -> None:
    assert await broker_env.request("GET", "containers/none/json") == (
        404,
        "No such container: none",
    )
    assert await broker_env.request("POST", "containers/none/start") == (
        404,
        "No such container: none",
    )
    broker_env.engine.plan("inspect", Fault.ERROR)
    assert await broker_env.request("DELETE", "containers/a") == (
        500,
        "something went wrong inside",
    )


@pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.WRONG_SHAPE])
async def test_an_answer_that_cannot_be_read_is_a_502(
    broker_env: BrokerEnvironment, fault: Fault
) -> None:
    await broker_env.create(broker_env.body())
    broker_env.engine.plan("inspect", fault)
    assert (await broker_env.request("POST", f"containers/{broker_env.name()}/start"))[0] == 502
    broker_env.engine.plan("image", fault)
    assert (await broker_env.create(broker_env.body()))[0] == 502


async def test_without_docker_the_answer_is_503(broker_env: BrokerEnvironment) -> None:
    broker_env.engine.socket_path.unlink()
    status, sentence = await broker_env.request("GET", "_ping")
    assert (status, sentence.endswith("start the Docker daemon.")) == (503, True)


async def test_without_the_ledger_nothing_is_created_or_started(
    broker_env: BrokerEnvironment,
) -> None:
    await broker_env.create(broker_env.body())
    # pages of SQLite's own format, written over
    for path in broker_env.socket_path.parent.glob("ledger.sqlite*"):
        path.write_bytes(b"not a database" * 1000)
    refused = (503, "The ledger cannot be read, so nothing may start: see the broker's log.")
    assert await broker_env.request("POST", f"containers/{broker_env.name()}/start") == refused
    assert not broker_env.engine.containers[broker_env.name()].is_running
    assert await broker_env.create(broker_env.body()) == refused


def test_the_broker_waits_for_a_ledger_and_makes_none(tmp_path: Path, ledger_url: str) -> None:
    opened = lazy_ledger(ledger_url, FIRST_UID)
    with pytest.raises(Unknown, match="start the hub"):
        opened()
    assert list(tmp_path.iterdir()) == []
    hubs = Ledger.open(ledger_url, first_uid=FIRST_UID)
    account = hubs.get_or_create_account("alice", "alice")
    assert opened().account(account.uid) == account


async def test_the_ledger_is_read_off_the_loop(
    broker_env: BrokerEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_on_loop() -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True

    seen = []
    real = Ledger.lease

    def watched(ledger: Ledger, lease_id: str) -> Lease | None:
        seen.append(is_on_loop())
        return real(ledger, lease_id)

    monkeypatch.setattr(Ledger, "lease", watched)
    await broker_env.create(broker_env.body())
    assert seen == [False]


async def test_only_the_group_may_connect(broker_env: BrokerEnvironment) -> None:
    mode = broker_env.socket_path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


RAW = [
    b"GET http://docker/v1.44/_ping HTTP/1.1\r\nHost: docker\r\n\r\n",
    b"GET /v1.44/../_ping HTTP/1.1\r\nHost: docker\r\n\r\n",
    b"GET /v1.44/%5fping HTTP/1.1\r\nHost: docker\r\n\r\n",
    b"GET //_ping HTTP/1.1\r\nHost: docker\r\n\r\n",
    b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
    b"POST /v1.44/containers/a/attach?stream=1 HTTP/1.1\r\nHost: docker\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: docker\r\n\r\n",
    b"GET /containers/json?all=1&filters={} HTTP/1.1\r\nHost: docker\r\n\r\n",
]


@pytest.mark.parametrize("request_bytes", RAW, ids=lambda raw: repr(raw[:40]))
async def test_tricks_on_the_wire_are_refused(
    broker_env: BrokerEnvironment, request_bytes: bytes
) -> None:
    def talk() -> bytes:
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(5)
            wire.connect(str(broker_env.socket_path))
            wire.sendall(request_bytes)
            return wire.recv(100)

    assert (await asyncio.to_thread(talk)).startswith(b"HTTP/1.1 403 ")
    assert broker_env.engine.calls == []
