"""The life of containers on the real daemon, as the hub sees it through the broker."""

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from spawner.containers import Containers
from spawner.model import LaunchError, Unknown
from testing.eventually import eventually
from testing.fakes.docker_engine import FakeEngine
from testing.stack import docker
from tests.docker.conftest import Bench


async def test_an_image_is_its_id_and_one_outside_the_catalog_is_not_described(
    bench: Bench, containers: Containers
) -> None:
    assert await containers.image_id(bench.image) == bench.image_id()
    with pytest.raises(LaunchError, match="is no image of the catalog"):
        await containers.image_id("wbtest-never-built:v1")


async def test_a_server_runs_hardened_as_its_users_own_uid(
    bench: Bench, containers: Containers
) -> None:
    lease = bench.grant()
    await bench.launch(containers, lease)
    status = bench.inside(lease, "cat", "/proc/1/status")
    facts = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines()}
    assert set(facts["Uid"]) == set(facts["Gid"]) == {str(lease.uid)}
    assert facts["NoNewPrivs"] == ["1"]
    assert facts["Seccomp"] == ["2"]
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(facts[capabilities][0], 16) == 0, capabilities
    limits = bench.settings.limits
    assert bench.inside(lease, "sh", "-c", "df -B1 --output=size /dev/shm | tail -1") == str(
        limits.shm_bytes
    )
    owners = bench.inside(lease, "stat", "-c", "%u:%g %a", "/home/researcher")
    assert owners == f"{lease.uid}:{lease.uid} 750"
    assert bench.inside(lease, "stat", "-c", "%u", "/home/researcher/example.txt") == str(lease.uid)


async def test_what_docker_states_of_a_life(bench: Bench, containers: Containers) -> None:
    lease = bench.grant()
    name = bench.name(lease)
    assert await containers.inspect(name) is None
    before = time.time()
    await containers.create(name, bench.server(lease))
    created = await containers.inspect(name)
    assert created is not None
    assert (created.is_running, created.exit_code, created.started_at) == (False, None, None)
    assert created.labels["workbench.lease"] == lease.id
    await containers.start(name)
    await containers.start(name)  # a second start is no error
    (listed,) = await containers.list_servers()
    assert (listed.name, listed.lease_id, listed.is_running) == (name, lease.id, True)
    running = await containers.inspect(name)
    assert running is not None
    assert (running.id, running.name, running.is_running) == (created.id, name, True)
    assert running.started_at is not None
    assert running.started_at >= before - 1
    await eventually(lambda: asyncio.to_thread(docker, "logs", name), "the server logs")
    assert await containers.log_tail(name) == f"up as {lease.uid}:{lease.uid}"
    await containers.remove(name, grace_seconds=5)
    assert await containers.inspect(name) is None
    assert bench.all_containers() == []


async def test_a_server_that_ends_by_itself_leaves_its_exit_code_and_its_log(
    bench: Bench, containers: Containers
) -> None:
    lease = bench.grant()
    await bench.launch(containers, lease, JUPYTERHUB_DEFAULT_URL="3")
    name = bench.name(lease)
    await eventually(lambda: docker("inspect", "-f", "{{.State.Running}}", name) == "false")
    ended = await containers.inspect(name)
    assert ended is not None
    assert (ended.is_running, ended.exit_code, ended.oom_killed) == (False, 3, False)
    assert "up as" in await containers.log_tail(name)


async def test_a_home_outlives_its_containers(bench: Bench, containers: Containers) -> None:
    first = bench.grant()
    await bench.launch(containers, first)
    bench.inside(first, "sh", "-c", "echo kept > /home/researcher/notes.txt")
    await containers.remove(bench.name(first), grace_seconds=5)
    bench.close(first)
    second = bench.grant()
    await bench.launch(containers, second)
    assert bench.inside(second, "cat", "/home/researcher/notes.txt") == "kept"
    other = bench.grant("bob")
    await bench.launch(containers, other)
    assert bench.inside(other, "ls", "/home/researcher") == "example.txt"


async def test_a_server_that_ignores_sigterm_is_killed_after_its_grace(
    bench: Bench, containers: Containers
) -> None:
    lease = bench.grant()
    await bench.launch(containers, lease, JUPYTERHUB_DEBUG="1")
    await eventually(
        lambda: asyncio.to_thread(docker, "logs", bench.name(lease)), "the server logs"
    )
    await containers.remove(bench.name(lease), grace_seconds=1)
    assert bench.all_containers() == []


async def test_a_preparation_that_fails_gives_the_reason(
    bench: Bench, containers: Containers
) -> None:
    name, body = bench.preparation("alice")
    direct = Containers("/var/run/docker.sock", bench.instance)  # the broker takes no other body
    broken = {**body, "Cmd": ["echo no space left >&2; exit 4"]}
    with pytest.raises(LaunchError, match=r"exit code 4\): no space left"):
        await direct.prepare_home(name, broken)
    await direct.close()
    assert bench.all_containers() == []


async def test_a_gpu_that_the_host_lacks_starts_nothing(
    bench: Bench, containers: Containers
) -> None:
    lease = bench.grant("alice", "GPU-00000000-dead-4000-8000-000000000000")
    with pytest.raises(Unknown, match="GPU-00000000-dead"):
        await bench.launch(containers, lease)
    status = await containers.inspect(bench.name(lease))
    assert status is None or not status.is_running
    await containers.remove(bench.name(lease), grace_seconds=0)


LIFE = (
    ("GET", "containers/{name}/json"),
    ("POST", "containers/create?name={name}"),
    ("POST", "containers/create?name={name}"),
    ("GET", "containers/{name}/json"),
    ("POST", "containers/{name}/stop?t=0"),
    ("POST", "containers/{name}/start"),
    ("POST", "containers/{name}/start"),
    ("GET", "containers/{name}/json"),
    ("DELETE", "containers/{name}"),
    ("POST", "containers/{name}/stop?t=0"),
    ("POST", "containers/{name}/wait"),
    ("GET", "containers/{name}/logs?stdout=1&tail=5"),
    ("DELETE", "containers/{name}"),
    ("GET", "containers/{name}/json"),
    ("POST", "containers/{name}/start"),
    ("GET", "images/wbtest-never-built:v1/json"),
)


async def test_the_fake_engine_answers_like_the_real_one(bench: Bench, tmp_path: Path) -> None:
    body = bench.server(bench.grant())
    name = f"{bench.instance}-life"

    async def live(socket_path: str) -> list[object]:
        seen: list[object] = []
        connector = aiohttp.UnixConnector(socket_path)
        async with aiohttp.ClientSession("http://docker/v1.44/", connector=connector) as http:
            for method, path in LIFE:
                posted = body if "create" in path else None
                async with http.request(method, path.format(name=name), json=posted) as response:
                    raw = await response.read()
                    seen.append((method, path, response.status))
                    if raw and "/logs" not in path:  # how much it has written is chance
                        seen.append(response.content_type)
                    if response.status == 404:
                        seen.append(await response.json())
                    if path.endswith("{name}/json") and response.status == 200:
                        said = await response.json()
                        seen.append(
                            [said["Name"], said["State"]["Running"], said["State"]["Error"]]
                        )
        return seen

    async with FakeEngine(tmp_path / "fake.sock") as fake:
        fake.images[bench.image] = bench.image_id()
        assert await live(str(fake.socket_path)) == await live("/var/run/docker.sock")
