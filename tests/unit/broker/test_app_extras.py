"""A fallen hub writes any extras into a lease: the broker makes no container outside schema and bounds."""

import json
from pathlib import Path
from typing import Any

import pytest

from spawner.policy.bounds import Bounds, MountBound
from tests.unit.broker_env import INSTANCE, LIMITS, BrokerEnvironment, forge

BOUNDS = Bounds(
    mounts=(MountBound("/srv/sets", read_only=True), MountBound("team-*", read_only=False)),
    memory_bytes=2 * LIMITS.memory_bytes,
    environment=("TEAM_*",),
)
SETS = {"source": "/srv/sets/imaging", "target": "/data", "read_only": True}


@pytest.fixture(autouse=True)
def host(broker_env: BrokerEnvironment, tmp_path: Path) -> Path:
    """A host with a data set, a link to Docker's socket, and the bounds above."""
    (tmp_path / "host/srv/sets/imaging").mkdir(parents=True)
    (tmp_path / "host/srv/sets/link").symlink_to("/var/run/docker.sock")
    broker_env.broker._extras_check._bounds = BOUNDS
    broker_env.broker._extras_check._host = tmp_path / "host"
    return tmp_path / "host"


async def test_extras_within_the_bounds_are_in_the_container(broker_env: BrokerEnvironment) -> None:
    extras = {
        "mounts": [SETS, {"source": "team-vision", "target": "/mnt/team", "read_only": False}],
        "environment": {"TEAM_NAME": "vision"},
        "memory_bytes": 2 * LIMITS.memory_bytes,
    }
    lease = forge(broker_env, broker_env.lease, extras=json.dumps(extras))
    assert await broker_env.create(broker_env.body(lease)) == (201, "")
    body = broker_env.engine.containers[broker_env.name()].body
    assert body["HostConfig"]["Memory"] == 2 * LIMITS.memory_bytes
    assert "TEAM_NAME=vision" in body["Env"]
    assert [(m["Type"], m["Source"], m["ReadOnly"]) for m in body["HostConfig"]["Mounts"][2:]] == [
        ("bind", "/srv/sets/imaging", True),
        ("volume", "team-vision", False),
    ]


@pytest.mark.parametrize(
    ("extras", "why"),
    [
        ({"mounts": [{**SETS, "read_only": False}]}, "as a writable source"),
        ({"mounts": [{**SETS, "source": "/etc"}]}, "no [[mounts]] allows /etc"),
        ({"mounts": [{**SETS, "source": "/var/run/docker.sock"}]}, "no [[mounts]] allows"),
        ({"mounts": [{**SETS, "source": "/srv/sets/link"}]}, "/srv/sets/link is a link"),
        ({"mounts": [{**SETS, "target": "/etc"}]}, "nothing may be mounted at /etc"),
        ({"mounts": [{**SETS, "source": f"{INSTANCE}-home-bob-20001"}]}, "no [[mounts]] allows"),
        ({"memory_bytes": 4 * LIMITS.memory_bytes}, "mem_limit"),
        ({"cpus": 64}, "cpu_limit"),
        ({"environment": {"LD_PRELOAD": "/home/researcher/x.so"}}, "environment does not allow"),
        ({"environment": {"JUPYTERHUB_SINGLEUSER_APP": "x"}}, "the workbench's own"),
        ({"args": ["--allow-root"]}, "args does not allow"),
        ({"host_config": {"Privileged": True}}, "which no server may have"),
        ({"host_config": {"Dns": ["10.0.0.1"]}}, "host_config does not allow Dns"),
        ({"privileged": True}, "which no server may have"),
    ],
)
async def test_extras_outside_make_no_container(
    broker_env: BrokerEnvironment, extras: dict[str, Any], why: str
) -> None:
    lease = forge(broker_env, broker_env.lease, extras=json.dumps({"mounts": [SETS]}))
    body = broker_env.body(lease)  # as far as a hub can build one
    forge(broker_env, broker_env.lease, extras=json.dumps(extras))
    status, sentence = await broker_env.create(body)
    assert status == 403
    assert why in sentence
    assert broker_env.engine.containers == {}


async def test_a_body_with_more_than_its_lease_is_refused(broker_env: BrokerEnvironment) -> None:
    body = broker_env.body()
    body["HostConfig"]["Mounts"].append(
        {"Type": "bind", "Source": "/srv/sets/imaging", "Target": "/data", "ReadOnly": True}
    )
    status, sentence = await broker_env.create(body)
    assert (status, "HostConfig.Mounts differs" in sentence) == (403, True)


async def test_a_link_that_appears_after_the_creation_stops_the_start(
    broker_env: BrokerEnvironment, host: Path
) -> None:
    lease = forge(broker_env, broker_env.lease, extras=json.dumps({"mounts": [SETS]}))
    assert await broker_env.create(broker_env.body(lease)) == (201, "")
    (host / "srv/sets/imaging").rmdir()
    (host / "srv/sets/imaging").symlink_to("/etc")
    status, sentence = await broker_env.request("POST", f"containers/{broker_env.name()}/start")
    assert (status, "/srv/sets/imaging is a link" in sentence) == (403, True)


async def test_dockers_own_folder_is_never_mounted(broker_env: BrokerEnvironment) -> None:
    broker_env.engine.root = "/srv/sets/imaging/docker"
    lease = forge(broker_env, broker_env.lease, extras=json.dumps({"mounts": [SETS]}))
    status, sentence = await broker_env.create(broker_env.body(lease))
    assert (status, "is Docker's own" in sentence) == (403, True)
