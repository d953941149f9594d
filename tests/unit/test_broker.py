"""The broker before a fake Docker Engine and a real ledger: tampering, fencing and failures."""

import asyncio
import json
import logging
import socket
import stat
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from spawner.broker.__main__ import open_when_there, serve
from spawner.broker.app import Broker
from spawner.broker.engine import Engine
from spawner.containers import Containers
from spawner.ledger import Ledger
from spawner.model import (
    Cause,
    Granted,
    LaunchError,
    Lease,
    LeaseState,
    Options,
    Request,
    Unknown,
)
from spawner.policy import names
from spawner.policy.container import Limits, build_home_preparation, build_server
from tests.fakes.docker_engine import FakeContainer, FakeEngine, Fault

INSTANCE = "wb"
TAG, IMAGE_ID = "pytorch-cuda:v2.7", "sha256:1"
LIMITS = Limits(memory_bytes=2**30, cpus=1.5, pids=100, shm_bytes=2**20)
UUID = "GPU-51a0c0de-0000-4000-8000-000000000000"
OTHER_UUID = "GPU-51a0c0de-0000-4000-8000-000000000001"
ENVIRONMENT = {"JUPYTERHUB_API_TOKEN": "secret-token", "JPY_API_TOKEN": "x=y", "MEM_LIMIT": "1"}
FIRST_UID = 20000


class House:
    """A broker on a socket of its own, before a fake Engine, with one granted lease."""

    def __init__(self, folder: Path, engine: FakeEngine, ledger: Ledger) -> None:
        self.engine, self.ledger = engine, ledger
        self.socket_path = folder / "broker.sock"
        self.lease = self.grant("alice", UUID)
        self.http: aiohttp.ClientSession

    def grant(self, user: str, *uuids: str) -> Lease:
        request = Request(user, "", Options("v2.7", len(uuids)))
        granted = self.ledger.claim(request, lambda _: uuids, now=1.0)
        assert isinstance(granted, Granted)
        return granted.lease

    def name(self, lease: Lease | None = None) -> str:
        return names.container_name(INSTANCE, lease or self.lease)

    def body(self, lease: Lease | None = None) -> dict[str, Any]:
        return deepcopy(
            build_server(
                lease or self.lease,
                instance=INSTANCE,
                image_id=IMAGE_ID,
                limits=LIMITS,
                environment=ENVIRONMENT,
            )
        )

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """Return the status and, of a refusal, the sentence."""
        async with self.http.request(method, path, json=body) as response:
            raw = await response.read()
            if response.status < 400:
                return response.status, ""
            assert response.headers["Content-Type"] == "application/json"
            answer = json.loads(raw)
            assert answer.keys() == {"message"}
            return response.status, answer["message"]

    async def create(self, body: object, name: str | None = None) -> tuple[int, str]:
        return await self.ask("POST", f"containers/create?name={name or self.name()}", body)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    ledger = Ledger.open(url, first_uid=FIRST_UID)
    async with FakeEngine(tmp_path / "docker.sock") as fake:
        fake.images[TAG] = IMAGE_ID
        house = House(tmp_path, fake, ledger)
        engine = Engine(str(fake.socket_path))
        broker = Broker(
            engine,
            open_when_there(url, FIRST_UID),
            instance=INSTANCE,
            limits=LIMITS,
            images={"v2.7": TAG, "v9.9": "not-built:v9.9"},
        )
        runner = await serve(
            broker, house.socket_path, group=house.socket_path.parent.stat().st_gid
        )
        connector = aiohttp.UnixConnector(str(house.socket_path))
        async with aiohttp.ClientSession("http://broker/v1.44/", connector=connector) as house.http:
            yield house
        await runner.cleanup()
        await engine.close()
    ledger.close()


def at(*path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Return a tampering that sets one key."""

    def tamper(body: dict[str, Any]) -> None:
        for key in path[:-1]:
            body = body[key]
        body[path[-1]] = value

    return tamper


def adding_env(*entries: str) -> Callable[[dict[str, Any]], None]:
    return lambda body: body["Env"].extend(entries)


def _without(*path: str) -> Callable[[dict[str, Any]], None]:
    def tamper(body: dict[str, Any]) -> None:
        for key in path[:-1]:
            body = body[key]
        del body[path[-1]]

    return tamper


def device(*uuids: str) -> list[dict[str, object]]:
    return [{"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={uuid}" for uuid in uuids]}]


HOST_BIND = {"Type": "bind", "Source": "/", "Target": "/home/researcher"}
OTHER_HOME = {"Type": "volume", "Source": "wb-home-bob-20002", "Target": "/home/researcher"}
TAMPERED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "privileged": (at("HostConfig", "Privileged", value=True), "HostConfig.Privileged"),
    "binds": (at("HostConfig", "Binds", value=["/:/host"]), "HostConfig.Binds"),
    "bind mount": (at("HostConfig", "Mounts", value=[HOST_BIND]), "HostConfig.Mounts"),
    "another home": (at("HostConfig", "Mounts", value=[OTHER_HOME]), "HostConfig.Mounts"),
    "volumes from": (at("HostConfig", "VolumesFrom", value=["hub"]), "HostConfig.VolumesFrom"),
    "volume": (at("Volumes", value={"/x": {}}), "Volumes"),
    "another gpu": (
        at("HostConfig", "DeviceRequests", value=device(OTHER_UUID)),
        "HostConfig.DeviceRequests",
    ),
    "one more gpu": (
        at("HostConfig", "DeviceRequests", value=device(UUID, OTHER_UUID)),
        "HostConfig.DeviceRequests",
    ),
    "all gpus": (
        at("HostConfig", "DeviceRequests", value=[{"Driver": "nvidia", "Count": -1}]),
        "HostConfig.DeviceRequests",
    ),
    "no gpu": (_without("HostConfig", "DeviceRequests"), "HostConfig.DeviceRequests"),
    "device node": (at("HostConfig", "Devices", value=[{}]), "HostConfig.Devices"),
    "runtime": (at("HostConfig", "Runtime", value="nvidia"), "HostConfig.Runtime"),
    "root": (at("User", value="0:0"), "User"),
    "no user": (_without("User"), "User"),
    "another image": (at("Image", value="debian:bookworm-slim"), "Image"),
    "image by tag": (at("Image", value=TAG), "Image"),
    "entrypoint": (at("Entrypoint", value=["/bin/sh"]), "Entrypoint"),
    "command": (at("Cmd", value=["sleep", "1"]), "Cmd"),
    "host network": (at("HostConfig", "NetworkMode", value="host"), "HostConfig.NetworkMode"),
    "more networks": (at("NetworkingConfig", value={}), "NetworkingConfig"),
    "host pids": (at("HostConfig", "PidMode", value="host"), "HostConfig.PidMode"),
    "host ipc": (at("HostConfig", "IpcMode", value="host"), "HostConfig.IpcMode"),
    "userns": (at("HostConfig", "UsernsMode", value="host"), "HostConfig.UsernsMode"),
    "capability": (at("HostConfig", "CapAdd", value=["SYS_ADMIN"]), "HostConfig.CapAdd"),
    "capabilities kept": (at("HostConfig", "CapDrop", value=[]), "HostConfig.CapDrop"),
    "capabilities kept, true for a list": (
        at("HostConfig", "CapDrop", value=True),
        "HostConfig.CapDrop",
    ),
    "no seccomp": (
        at("HostConfig", "SecurityOpt", value=["seccomp=unconfined"]),
        "HostConfig.SecurityOpt",
    ),
    "more memory": (at("HostConfig", "Memory", value=2**40), "HostConfig.Memory"),
    "number as text": (at("HostConfig", "Memory", value=str(2**30)), "HostConfig.Memory"),
    "init 1": (at("HostConfig", "Init", value=1), "HostConfig.Init"),
    "restart": (
        at("HostConfig", "RestartPolicy", value={"Name": "always"}),
        "HostConfig.RestartPolicy.Name",
    ),
    "unknown key": (at("HostConfig", "Novelty", value=None), "HostConfig.Novelty"),
    "key in lower case": (at("hostconfig", value={"Privileged": True}), "hostconfig"),
    "no host config": (_without("HostConfig"), "HostConfig"),
    "another label": (at("Labels", "workbench.user", value="bob"), "Labels.workbench.user"),
    "another instance": (
        at("Labels", "workbench.instance", value="other"),
        "Labels.workbench.instance",
    ),
    "one more label": (at("Labels", "com.example", value="1"), "Labels.com.example"),
    "LD_PRELOAD": (adding_env("LD_PRELOAD=/home/researcher/x.so"), "Env LD_PRELOAD"),
    "PATH": (adding_env("PATH=/home/researcher/bin"), "Env PATH"),
    "python path": (adding_env("PYTHONPATH=/x"), "Env PYTHONPATH"),
    "visible devices": (adding_env("NVIDIA_VISIBLE_DEVICES=all"), "Env NVIDIA_VISIBLE_DEVICES"),
    "a variable twice": (adding_env("JUPYTERHUB_API_TOKEN=again"), "Env"),
    "prefix in lower case": (adding_env("jupyterhub_x=1"), "Env jupyterhub_x"),
    "name with a line end": (adding_env("JUPYTERHUB_X\n=1"), "Env JUPYTERHUB_X"),
    "variable without value": (adding_env("JUPYTERHUB_X"), "Env JUPYTERHUB_X"),
    "zero byte": (adding_env("JUPYTERHUB_X=a\0b"), "Env"),
    "env of no strings": (at("Env", value=[1]), "Env"),
    "env as object": (at("Env", value={"PATH": "x"}), "Env"),
}


async def test_what_policy_builds_is_created_and_started(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "workbench.broker")
    containers = Containers(str(house.socket_path), INSTANCE)
    assert await containers.image_id(TAG) == IMAGE_ID
    await containers.create(house.name(), house.body())
    await containers.start(house.name())
    assert house.engine.containers[house.name()].body == house.body()
    (server,) = await containers.list_servers()
    assert (server.name, server.is_running) == (house.name(), True)
    assert await containers.log_tail(house.name()) == ""
    await containers.remove(house.name(), grace_seconds=1)
    await containers.close()
    changing = [line.message.split(":")[0].split()[0] for line in caplog.records]
    assert changing == ["create", "start", "stop", "remove"]
    assert all(house.name() in line.message for line in caplog.records)
    assert "secret-token" not in caplog.text


@pytest.mark.parametrize("case", TAMPERED)
async def test_a_tampered_body_is_refused_by_its_first_wrong_key(
    house: House, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    tamper, key = TAMPERED[case]
    body = house.body()
    tamper(body)
    status, sentence = await house.create(body)
    assert status == 403
    assert sentence.startswith(f"The broker refuses this container: {key}")
    assert house.engine.containers == {}
    assert "secret-token" not in sentence + caplog.text


async def test_a_key_given_twice_counts_as_it_was_checked(house: House) -> None:
    good, bad = json.dumps(house.body()), json.dumps({**house.body(), "User": "0:0"})
    twice = bad[:-1] + ", " + good[1:]
    path = f"containers/create?name={house.name()}"
    async with house.http.post(path, data=twice) as response:
        assert response.status == 201
    assert house.engine.containers[house.name()].body == house.body()


async def test_a_container_of_another_name_is_refused(house: House) -> None:
    assert await house.create(house.body(), "wb-alice-lab-x") == (
        403,
        f"The broker refuses this container: its name is {house.name()}.",
    )
    status, _ = await house.ask("POST", "containers/create", house.body())
    assert status == 403


@pytest.mark.parametrize("role", ["", "hub", None, 1])
async def test_a_container_of_another_role_is_refused(house: House, role: object) -> None:
    body = house.body()
    body["Labels"]["workbench.role"] = role
    assert (await house.create(body))[0] == 403
    assert (await house.create({**body, "Labels": None}))[0] == 403


@pytest.mark.parametrize(
    ("raw", "status"),
    [(b"", 400), (b"[]", 400), (b"{", 400), (b"[" * 100_000, 400), (b" " * 2_000_000, 413)],
)
async def test_a_body_that_is_none_is_refused(house: House, raw: bytes, status: int) -> None:
    async with house.http.post("containers/create?name=a", data=raw) as response:
        assert response.status == status
        assert (await response.json()).keys() == {"message"}


async def test_a_lease_that_the_ledger_does_not_know_is_refused(house: House) -> None:
    lease = replace(house.lease, id="f" * 16)
    status, sentence = await house.create(house.body(lease), house.name(lease))
    assert (status, "no such lease" in sentence) == (403, True)


async def test_a_release_that_is_not_built_says_what_to_do(house: House) -> None:
    request = Request("bob", "", Options("v9.9", 0))
    granted = house.ledger.claim(request, lambda _: (), now=1.0)
    assert isinstance(granted, Granted)
    status, sentence = await house.create(house.body(granted.lease), house.name(granted.lease))
    assert (status, "run scripts/up" in sentence) == (409, True)


def close_lease(house: House) -> None:
    house.ledger.move(house.lease, LeaseState.CLOSING, now=2.0, cause=Cause.USER)


@pytest.mark.parametrize("state", [LeaseState.CLOSING, LeaseState.LOST, LeaseState.CLOSED])
async def test_a_lease_that_is_ending_neither_creates_nor_starts(
    house: House, state: LeaseState
) -> None:
    assert (await house.create(house.body()))[0] == 201
    if state is not LeaseState.LOST:
        close_lease(house)
    if state is not LeaseState.CLOSING:
        before = house.ledger.lease(house.lease.id)
        assert before is not None
        house.ledger.move(before, state, now=3.0)
    sentence = f"Lease {house.lease.id} is {state.value}: no container of it may start."
    assert await house.ask("POST", f"containers/{house.name()}/start") == (409, sentence)
    assert not house.engine.containers[house.name()].is_running
    del house.engine.containers[house.name()]
    assert await house.create(house.body()) == (409, sentence)
    assert house.engine.containers == {}


async def test_the_hub_hears_the_fence_as_a_launch_error(house: House) -> None:
    containers = Containers(str(house.socket_path), INSTANCE)
    await containers.create(house.name(), house.body())
    close_lease(house)
    with pytest.raises(LaunchError, match="is closing: no container of it may start"):
        await containers.start(house.name())
    await containers.remove(house.name(), grace_seconds=0)
    await containers.close()


async def test_a_running_lease_may_start(house: House) -> None:
    assert (await house.create(house.body()))[0] == 201
    house.ledger.move(house.lease, LeaseState.RUNNING, now=2.0)
    assert (await house.ask("POST", f"containers/{house.name()}/start"))[0] == 204


async def test_a_container_without_a_lease_does_not_start(house: House) -> None:
    labels = {"workbench.instance": INSTANCE, "workbench.role": "server"}
    house.engine.containers["stray"] = FakeContainer("5", "stray", {"Labels": labels})
    assert (await house.ask("POST", "containers/stray/start"))[0] == 403
    assert not house.engine.containers["stray"].is_running


async def test_a_home_is_prepared_for_an_account_only(house: House) -> None:
    account = house.ledger.account_of("alice")
    name = names.preparation_name(INSTANCE, account.uid)
    body = build_home_preparation(account, instance=INSTANCE, image_id=IMAGE_ID)
    containers = Containers(str(house.socket_path), INSTANCE)
    await containers.prepare_home(name, body)
    await containers.close()
    assert ("start", f"{1:064x}") in house.engine.calls
    assert house.engine.containers == {}

    nobody = replace(account, uid=account.uid + 100)
    for wrong in (
        build_home_preparation(nobody, instance=INSTANCE, image_id=IMAGE_ID),
        build_home_preparation(replace(account, user="bob"), instance=INSTANCE, image_id=IMAGE_ID),
        build_home_preparation(account, instance=INSTANCE, image_id="sha256:2"),
        {**body, "Cmd": ["cat /etc/shadow"]},
        {**body, "Env": ["OWNER=0"]},
        {**body, "HostConfig": {**body["HostConfig"], "CapAdd": ["ALL"]}},
        {**body, "Labels": {**body["Labels"], "workbench.uid": "²"}},
    ):
        assert (await house.create(wrong, name))[0] == 403
    assert house.engine.containers == {}


FOREIGN = [
    {},
    {"workbench.instance": "other", "workbench.role": "server"},
    {"workbench.instance": INSTANCE},
    {"workbench.instance": INSTANCE, "workbench.role": "hub"},
]


@pytest.mark.parametrize("labels", FOREIGN)
async def test_a_foreign_container_is_not_touched_and_not_called_absent(
    house: House, labels: dict[str, str]
) -> None:
    house.engine.containers["x"] = FakeContainer("7", "x", {"Labels": labels}, is_running=True)
    for method, path in (
        ("GET", "containers/x/json"),
        ("GET", "containers/x/logs?stdout=1"),
        ("POST", "containers/x/start"),
        ("POST", "containers/x/stop"),
        ("POST", "containers/x/wait"),
        ("DELETE", "containers/x"),
    ):
        assert await house.ask(method, path) == (403, "x is not a container of wb.")
    assert house.engine.containers["x"].is_running
    assert {call for call, _ in house.engine.calls} == {"inspect"}
    containers = Containers(str(house.socket_path), INSTANCE)
    with pytest.raises(Unknown):
        await containers.look("x")
    await containers.close()


async def test_a_list_has_only_this_instances_containers(house: House) -> None:
    house.engine.containers["x"] = FakeContainer("7", "x", {"Labels": None})
    await house.create(house.body())
    async with house.http.get("containers/json?all=1") as response:
        assert [row["Names"] for row in await response.json()] == [[f"/{house.name()}"]]


async def test_dockers_own_answers_pass(house: House) -> None:
    assert await house.ask("GET", "containers/none/json") == (404, "No such container: none")
    assert await house.ask("POST", "containers/none/start") == (404, "No such container: none")
    house.engine.plan("inspect", Fault.ERROR)
    assert await house.ask("DELETE", "containers/a") == (500, "something went wrong inside")


@pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.WRONG_SHAPE])
async def test_an_answer_that_cannot_be_read_is_a_502(house: House, fault: Fault) -> None:
    await house.create(house.body())
    house.engine.plan("inspect", fault)
    assert (await house.ask("POST", f"containers/{house.name()}/start"))[0] == 502
    house.engine.plan("image", fault)
    assert (await house.create(house.body()))[0] == 502


async def test_without_docker_the_answer_is_503(house: House) -> None:
    house.engine.socket_path.unlink()
    status, sentence = await house.ask("GET", "_ping")
    assert (status, sentence.endswith("start the Docker daemon.")) == (503, True)


async def test_without_the_ledger_nothing_is_created_or_started(house: House) -> None:
    await house.create(house.body())
    # pages of SQLite's own format, written over
    for path in house.socket_path.parent.glob("ledger.sqlite*"):
        path.write_bytes(b"not a database" * 1000)
    refused = (503, "The ledger cannot be read, so nothing may start: see the broker's log.")
    assert await house.ask("POST", f"containers/{house.name()}/start") == refused
    assert not house.engine.containers[house.name()].is_running
    assert await house.create(house.body()) == refused


async def test_the_broker_waits_for_a_ledger_and_makes_none(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    opened = open_when_there(url, FIRST_UID)
    with pytest.raises(Unknown, match="start the hub"):
        opened()
    assert list(tmp_path.iterdir()) == []
    hubs = Ledger.open(url, first_uid=FIRST_UID)
    account = hubs.account_of("alice")
    assert opened().account(account.uid) == account


async def test_the_ledger_is_read_off_the_loop(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_on_loop() -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True

    seen = []
    real = Ledger.lease
    monkeypatch.setattr(
        Ledger, "lease", lambda self, i: (seen.append(is_on_loop()), real(self, i))[1]
    )
    await house.create(house.body())
    assert seen == [False]


async def test_only_the_group_may_connect(house: House) -> None:
    mode = house.socket_path.stat().st_mode
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
async def test_tricks_on_the_wire_are_refused(house: House, request_bytes: bytes) -> None:
    def talk() -> bytes:
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(5)
            wire.connect(str(house.socket_path))
            wire.sendall(request_bytes)
            return wire.recv(100)

    assert (await asyncio.to_thread(talk)).startswith(b"HTTP/1.1 403 ")
    assert house.engine.calls == []
