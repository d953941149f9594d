"""The broker before the real daemon: what it refuses is not made, what it fences does not start."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from spawner.containers import Containers
from spawner.model import LaunchError, Unknown
from testing.paths import ROOT
from testing.stack import docker, run
from tests.docker.conftest import Bench

TAMPERED: dict[str, dict[str, Any]] = {
    "HostConfig.Privileged": {"HostConfig": {"Privileged": True}},
    "HostConfig.Binds": {"HostConfig": {"Binds": ["/:/host"]}},
    "HostConfig.NetworkMode": {"HostConfig": {"NetworkMode": "host"}},
    "HostConfig.PidMode": {"HostConfig": {"PidMode": "host"}},
    "HostConfig.CapAdd": {"HostConfig": {"CapAdd": ["SYS_ADMIN"]}},
    "HostConfig.DeviceRequests": {
        "HostConfig": {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}]}
    },
    "hostConfig": {"hostConfig": {"Privileged": True}},
    "User": {"User": "0:0"},
    "Entrypoint": {"Entrypoint": ["/bin/sh", "-c", "id"]},
}


@pytest.fixture
def stranger(bench: Bench) -> Iterator[str]:
    """A running container that is not the instance's."""
    name = f"{bench.instance}-stranger"
    docker("run", "-d", "--rm", "--init", "--name", name, bench.image, "sleep", "300")
    yield name
    docker("rm", "--force", name)


@pytest.mark.parametrize("key", TAMPERED)
async def test_a_tampered_body_is_refused_and_nothing_is_made(
    bench: Bench, containers: Containers, key: str
) -> None:
    lease = bench.grant()
    body = bench.server(lease)
    change = TAMPERED[key]
    if "HostConfig" in change:
        change = {"HostConfig": {**body["HostConfig"], **change["HostConfig"]}}
    with pytest.raises(LaunchError, match=f"{key} differs from its lease and settings"):
        await containers.create(bench.name(lease), {**body, **change})
    assert bench.all_containers() == []


async def test_a_closing_lease_starts_nothing(bench: Bench, containers: Containers) -> None:
    lease = bench.grant()
    await containers.create(bench.name(lease), bench.server(lease))
    bench.begin_closing(lease)
    with pytest.raises(LaunchError, match=f"Lease {lease.id} is closing"):
        await containers.start(bench.name(lease))
    assert docker("inspect", "-f", "{{.State.Status}}", bench.name(lease)) == "created"
    await containers.remove(bench.name(lease), grace_seconds=0)
    with pytest.raises(LaunchError, match=f"Lease {lease.id} is closing"):
        await containers.create(bench.name(lease), bench.server(lease))
    assert bench.all_containers() == []


async def test_a_stranger_is_neither_seen_nor_stopped(
    bench: Bench, containers: Containers, stranger: str
) -> None:
    with pytest.raises(Unknown, match="is not a container of"):
        await containers.inspect(stranger)
    with pytest.raises(Unknown, match="is not a container of"):
        await asyncio.wait_for(containers.remove(stranger, grace_seconds=0), 60)
    assert await containers.list_servers() == ()
    assert docker("inspect", "-f", "{{.State.Running}}", stranger) == "true"


CLIENT = (
    ("run debian:bookworm-slim true", "The broker refuses this container"),
    ("run --privileged -v /:/host debian:bookworm-slim", "The broker refuses this container"),
    ("exec {stranger} id", "is not a container of"),
    ("exec {own} id", "The broker does not allow POST"),
    ("attach {own}", "received 403"),
    ("rm --volumes {own}", "The broker does not allow 'v'"),
    ("rm --force {stranger}", "The broker does not allow 'force'"),
    ("cp {own}:/etc/hostname -", "The broker does not allow GET"),
    ("update --memory=1g {own}", "The broker does not allow POST"),
    ("volume create x", "The broker does not allow POST"),
    ("info", "The broker does not allow GET"),
)


async def test_the_docker_client_gets_nowhere(
    bench: Bench, containers: Containers, stranger: str
) -> None:
    lease = bench.grant()
    own = bench.name(lease)
    await containers.create(own, bench.server(lease))
    await containers.start(own)
    host = f"unix://{bench.socket_path}"
    for words, sentence in CLIENT:
        command = words.format(stranger=stranger, own=own).split()
        done = await asyncio.to_thread(run, "/usr/bin/docker", "-H", host, *command, timeout=30)
        assert done.returncode != 0, words
        assert sentence in done.stdout + done.stderr, words
        for name in (own, stranger):
            assert docker("inspect", "-f", "{{.State.Running}}", name) == "true", words


def test_a_wrong_setting_ends_the_broker_with_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spawner.broker"],
        env={"WORKBENCH_INSTANS": "x"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "did you mean WORKBENCH_INSTANCE?" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.dumps(done.stderr).count("\\n") == 1
