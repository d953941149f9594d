"""The broker and the walls: no server without them, and a network probe of one form only."""

from copy import deepcopy
from typing import Any

import pytest

from spawner.policy.probe_container import HUB_IMAGE, build_probes, probe_names
from tests.unit.broker_env import INSTANCE, BrokerEnvironment

PROBE_IMAGE = "sha256:hub"
PEER, PROBE = probe_names(INSTANCE)


def probe_bodies(broker_env: BrokerEnvironment) -> dict[str, dict[str, Any]]:
    broker_env.engine.images[HUB_IMAGE] = PROBE_IMAGE
    return deepcopy(build_probes(INSTANCE, PROBE_IMAGE))


async def test_no_server_is_made_or_started_without_walls(broker_env: BrokerEnvironment) -> None:
    assert (await broker_env.create(broker_env.body()))[0] == 201
    broker_env.missing_wall = "The walls are down."
    refused = (503, "No server may start: The walls are down.")
    assert await broker_env.create(broker_env.body()) == refused
    assert await broker_env.request("POST", f"containers/{broker_env.name()}/start") == refused
    broker_env.missing_wall = ""
    status, _ = await broker_env.request("POST", f"containers/{broker_env.name()}/start")
    assert status == 204


async def test_a_probe_starts_without_walls(broker_env: BrokerEnvironment) -> None:
    broker_env.missing_wall = "The walls are down."
    for name, body in probe_bodies(broker_env).items():
        assert (await broker_env.create(body, name))[0] == 201
        assert (await broker_env.request("POST", f"containers/{name}/start"))[0] == 204
        assert (await broker_env.request("POST", f"containers/{name}/stop?t=0"))[0] in (204, 304)
        assert (await broker_env.request("DELETE", f"containers/{name}"))[0] == 204


async def test_the_broker_tells_the_probe_the_host_s_addresses(
    broker_env: BrokerEnvironment,
) -> None:
    broker_env.broker._host_addresses = lambda: ("172.17.0.1", "192.0.2.7")
    assert (await broker_env.create(probe_bodies(broker_env)[PROBE], PROBE))[0] == 201
    (probe,) = broker_env.engine.containers.values()
    assert probe.body["Cmd"][-4:] == ["attack", PEER, "172.17.0.1", "192.0.2.7"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Cmd", ["sh"]),
        ("User", "0:0"),
        ("Image", "sha256:1"),
        ("Env", ["A=b"]),
        ("Hostname", "hub"),
        ("NetworkingConfig", {"EndpointsConfig": {}}),
    ],
)
async def test_a_probe_of_another_form_is_refused(
    broker_env: BrokerEnvironment, key: str, value: object
) -> None:
    body = probe_bodies(broker_env)[PROBE] | {key: value}
    status, sentence = await broker_env.create(body, PROBE)
    assert status == 403
    assert key in sentence


@pytest.mark.parametrize("name", [f"{INSTANCE}-probe-2", f"{INSTANCE}-server-1", PEER])
async def test_a_probe_of_another_name_is_refused(broker_env: BrokerEnvironment, name: str) -> None:
    status, _ = await broker_env.create(probe_bodies(broker_env)[PROBE], name)
    assert status == 403


async def test_a_probe_needs_the_hubs_image(broker_env: BrokerEnvironment) -> None:
    body = build_probes(INSTANCE, PROBE_IMAGE)[PROBE]
    assert (await broker_env.create(body, PROBE))[0] == 409


def test_a_probe_has_the_hardening_of_a_server() -> None:
    for body in build_probes(INSTANCE, PROBE_IMAGE).values():
        host = body["HostConfig"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["NetworkMode"] == f"{INSTANCE}-users"
        assert "Mounts" not in host
        assert "workbench.user" not in body["Labels"]
