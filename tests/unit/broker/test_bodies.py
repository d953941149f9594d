"""Create bodies: the broker accepts the bodies that policy builds, and no others."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from spawner.containers import Containers
from spawner.model import Lease, Options, Quota, Request
from spawner.policy import names
from spawner.policy.container import build_home_preparation
from tests.unit.broker_env import (
    IMAGE_ID,
    INSTANCE,
    OTHER_UUID,
    TAG,
    UUID,
    BrokerEnvironment,
)


def at(*path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Return a tampering that sets one key."""

    def tamper(body: dict[str, Any]) -> None:
        for key in path[:-1]:
            body = body[key]
        body[path[-1]] = value

    return tamper


def adding_env(*entries: str) -> Callable[[dict[str, Any]], None]:
    def tamper(body: dict[str, Any]) -> None:
        # in the order of names, as policy has them: not the order but the entry is to be found
        body["Env"] = sorted([*body["Env"], *entries], key=lambda entry: entry.partition("="))

    return tamper


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
    "another epoch": (at("Labels", "workbench.epoch", value="1"), "Labels.workbench.epoch"),
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
    "program of the server": (
        adding_env("JUPYTERHUB_SINGLEUSER_APP=evil.App"),
        "Env JUPYTERHUB_SINGLEUSER_APP",
    ),
    "extension of the server": (
        adding_env("JUPYTERHUB_SINGLEUSER_EXTENSION=0"),
        "Env JUPYTERHUB_SINGLEUSER_EXTENSION",
    ),
    "zero byte": (adding_env("JUPYTERHUB_HOST=a\0b"), "Env JUPYTERHUB_HOST is too long or not"),
    "line end in a value": (
        adding_env("JUPYTERHUB_HOST=a\nb"),
        "Env JUPYTERHUB_HOST is too long or not",
    ),
    "long value": (
        adding_env("JUPYTERHUB_HOST=" + "a" * 4097),
        "Env JUPYTERHUB_HOST is too long or not",
    ),
    "no env": (_without("Env"), "Env is not a list of"),
    "env of no strings": (at("Env", value=[1]), "Env"),
    "env as object": (at("Env", value={"PATH": "x"}), "Env"),
}


@pytest.mark.parametrize("case", TAMPERED)
async def test_a_tampered_body_is_refused_by_its_first_wrong_key(
    broker_env: BrokerEnvironment, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    tamper, key = TAMPERED[case]
    body = broker_env.body()
    tamper(body)
    status, sentence = await broker_env.create(body)
    assert status == 403
    assert sentence.startswith(f"The broker refuses this container: {key}")
    assert broker_env.engine.containers == {}
    assert "secret-token" not in sentence + caplog.text


async def test_a_key_given_twice_counts_as_it_was_checked(broker_env: BrokerEnvironment) -> None:
    good, bad = json.dumps(broker_env.body()), json.dumps({**broker_env.body(), "User": "0:0"})
    twice = bad[:-1] + ", " + good[1:]
    path = f"containers/create?name={broker_env.name()}"
    async with broker_env.http.post(path, data=twice) as response:
        assert response.status == 201
    assert broker_env.engine.containers[broker_env.name()].body == broker_env.body()


async def test_a_container_of_another_name_is_refused(broker_env: BrokerEnvironment) -> None:
    assert await broker_env.create(broker_env.body(), "wb-alice-lab-x") == (
        403,
        f"The broker refuses this container: its name is {broker_env.name()}.",
    )
    status, _ = await broker_env.request("POST", "containers/create", broker_env.body())
    assert status == 403


@pytest.mark.parametrize("role", ["", "hub", None, 1])
async def test_a_container_of_another_role_is_refused(
    broker_env: BrokerEnvironment, role: object
) -> None:
    body = broker_env.body()
    body["Labels"]["workbench.role"] = role
    assert (await broker_env.create(body))[0] == 403
    assert (await broker_env.create({**body, "Labels": None}))[0] == 403


@pytest.mark.parametrize(
    ("raw", "status"),
    [(b"", 400), (b"[]", 400), (b"{", 400), (b"[" * 100_000, 400), (b" " * 2_000_000, 413)],
)
async def test_a_body_that_is_none_is_refused(
    broker_env: BrokerEnvironment, raw: bytes, status: int
) -> None:
    async with broker_env.http.post("containers/create?name=a", data=raw) as response:
        assert response.status == status
        assert (await response.json()).keys() == {"message"}


async def test_a_lease_that_the_ledger_does_not_know_is_refused(
    broker_env: BrokerEnvironment,
) -> None:
    lease = replace(broker_env.lease, id="f" * 16)
    status, sentence = await broker_env.create(broker_env.body(lease), broker_env.name(lease))
    assert (status, "no such lease" in sentence) == (403, True)


async def test_a_release_that_is_not_built_names_the_remedy(broker_env: BrokerEnvironment) -> None:
    request = Request("bob", "", Options("v9.9", 0), "bob")
    lease = broker_env.ledger.admit(request, lambda *_: None, quota=Quota(), now=1.0)
    assert isinstance(lease, Lease)
    status, sentence = await broker_env.create(broker_env.body(lease), broker_env.name(lease))
    assert (status, "run scripts/up" in sentence) == (409, True)


async def test_a_home_is_prepared_for_an_account_only(broker_env: BrokerEnvironment) -> None:
    account = broker_env.ledger.get_or_create_account("alice", "alice")
    name = names.preparation_name(INSTANCE, account.uid)
    body = build_home_preparation(account, instance=INSTANCE, image_id=IMAGE_ID)
    containers = Containers(str(broker_env.socket_path), INSTANCE)
    await containers.prepare_home(name, body)
    await containers.close()
    assert ("start", f"{1:064x}") in broker_env.engine.calls
    assert broker_env.engine.containers == {}

    nobody = replace(account, uid=account.uid + 100)
    for wrong in (
        build_home_preparation(nobody, instance=INSTANCE, image_id=IMAGE_ID),
        build_home_preparation(replace(account, user="bob"), instance=INSTANCE, image_id=IMAGE_ID),
        build_home_preparation(account, instance=INSTANCE, image_id="sha256:2"),
        {**body, "Cmd": ["cat /etc/shadow"]},
        {**body, "Env": ["OWNER=0"]},
        {**body, "Env": None},
        {**body, "Env": [["OWNER=0"]]},
        {key: value for key, value in body.items() if key != "Env"},
        {**body, "HostConfig": {**body["HostConfig"], "CapAdd": ["ALL"]}},
        {**body, "Labels": {**body["Labels"], "workbench.uid": "²"}},
    ):
        assert (await broker_env.create(wrong, name))[0] == 403
    assert broker_env.engine.containers == {}
