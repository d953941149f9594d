"""Traits of the site files: evaluated once at admission, kept in the lease, built into the container."""

import json
from typing import Any

import pytest

from spawner.policy.bounds import Bounds, MountBound
from tests.hub.accounts import join
from tests.hub.hub_env import HubEnvironment
from tests.hub.pages import parse
from tests.hub.servers import start, stop

GIB = 1024**3


def use(hub_env: HubEnvironment, **traits: Any) -> None:
    hub_env.hub.config.DockerSpawner.update(traits)
    hub_env.workbench.bounds = Bounds(
        mounts=(MountBound("/srv/sets", read_only=True), MountBound("team-*", read_only=False)),
        memory_bytes=64 * GIB,
        environment=("TEAM_*", "HOOKED"),
        args=("--ServerApp.x=*",),
        host_config=("ShmSize", "Ulimits", "ExtraHosts", "Dns", "Tmpfs"),
    )


async def container_of(hub_env: HubEnvironment) -> dict[str, Any]:
    status, message = await start(hub_env, "ada", {"gpus": 0})
    assert status == 201, message
    (lease,) = hub_env.live()
    body: dict[str, Any] = hub_env.container(lease).body
    return body


def mounts(body: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    extra = body["HostConfig"]["Mounts"][2:]
    return [(one["Type"], one["Source"], one["Target"], one["ReadOnly"]) for one in extra]


async def test_values_functions_and_async_functions_are_honoured(hub_env: HubEnvironment) -> None:
    async def volumes(spawner: Any) -> dict[str, Any]:
        return {f"team-{group.name}": f"/mnt/{group.name}" for group in spawner.user.groups}

    def hook(spawner: Any) -> None:
        spawner.environment = {**spawner.environment, "HOOKED": "yes"}

    async with hub_env.client("root", is_admin=True) as admin:
        hub_env.user("ada")
        await admin.post("/hub/api/groups/vision")
        await admin.post("/hub/api/groups/vision/users", json={"users": ["ada"]})
    use(
        hub_env,
        volumes=volumes,
        read_only_volumes={"/srv/sets/{username}": "/data/{username}"},
        mounts=[{"source": "/srv/sets/all", "target": "/data/all", "read_only": True}],
        environment={"TEAM_NAME": "vision", "TEAM_USER": lambda spawner: spawner.user.name},
        mem_limit=lambda spawner: "3G" if spawner.user.name == "ada" else "1G",
        cpu_limit=lambda _: 0.5,
        args=["--ServerApp.x={username}"],
        extra_host_config=lambda _: {
            "shm_size": "512m",
            "ulimits": [{"name": "nofile", "soft": 10, "hard": 20}],
            "extra_hosts": {"files.lab": "10.0.0.2"},
            "tmpfs": {"/scratch": "size=1g"},
        },
        pre_spawn_hook=hook,
        remove=True,
    )
    body = await container_of(hub_env)
    assert mounts(body) == [
        ("volume", "team-vision", "/mnt/vision", False),
        ("bind", "/srv/sets/ada", "/data/ada", True),
        ("bind", "/srv/sets/all", "/data/all", True),
    ]
    assert {"TEAM_NAME=vision", "TEAM_USER=ada", "HOOKED=yes"} <= set(body["Env"])
    host = body["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["ShmSize"]) == (3 * GIB, 5 * 10**8, GIB // 2)
    assert host["Ulimits"][1:] == [{"Name": "nofile", "Soft": 10, "Hard": 20}]
    assert host["ExtraHosts"] == ["files.lab:10.0.0.2"]
    assert host["Tmpfs"]["/scratch"] == "nosuid,nodev,size=1g"
    assert body["Cmd"][-1] == "--ServerApp.x=ada"


async def test_a_trait_is_evaluated_once_for_a_lease(hub_env: HubEnvironment) -> None:
    calls: list[str] = []

    def limit(spawner: Any) -> str:
        calls.append(spawner.user.name)
        return "1G"

    def variable(_spawner: Any) -> str:
        calls.append("variable")
        return "x"

    use(hub_env, mem_limit=limit, environment={"TEAM_A": variable})
    body = await container_of(hub_env)
    assert sorted(calls) == ["ada", "variable"]
    (lease,) = hub_env.live()
    assert json.loads(lease.extras) == {"memory_bytes": GIB, "environment": {"TEAM_A": "x"}}
    assert body["HostConfig"]["Memory"] == GIB
    assert await stop(hub_env, "ada") == 204


def broken(_spawner: Any) -> str:
    raise ValueError("hush")


@pytest.mark.parametrize(
    ("traits", "why"),
    [
        ({"volumes": {"/etc": "/data"}}, "no [[mounts]] allows /etc"),
        ({"volumes": {"/srv/sets": "/home/researcher"}}, "nothing may be mounted at /home/researcher"),
        ({"volumes": {"/srv/sets": {"bind": "/data", "mode": "z"}}}, "the mode ro or rw"),
        ({"mem_limit": "99T"}, "mem_limit is"),
        ({"mem_limit": broken}, "the function of mem_limit failed: ValueError"),
        ({"environment": {"LD_PRELOAD": "x"}}, "environment does not allow LD_PRELOAD"),
        ({"environment": {"JUPYTERHUB_API_TOKEN": "x"}}, "the workbench's own"),
        ({"extra_host_config": {"privileged": True}}, "cannot have privileged"),
        ({"extra_host_config": lambda _: {"cap_add": ["ALL"]}}, "cannot have cap_add"),
        ({"group_overrides": lambda _: {"1": {"groups": ["g"], "spawner_override": {"port": 1}}}}, "cannot set port"),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_refused_before_a_lease_exists(
    hub_env: HubEnvironment, traits: dict[str, Any], why: str
) -> None:
    async with hub_env.client("root", is_admin=True) as admin:
        hub_env.user("ada")
        await admin.post("/hub/api/groups/g")
        await admin.post("/hub/api/groups/g/users", json={"users": ["ada"]})
    use(hub_env, **traits)
    status, message = await start(hub_env, "ada", {"gpus": 1})
    assert status >= 400
    assert why in message
    assert "hush" not in message
    assert hub_env.live() == []
    assert hub_env.leftovers("ada") == {}


async def test_allowed_images_are_releases(hub_env: HubEnvironment) -> None:
    use(
        hub_env,
        allowed_images=lambda spawner: ["v2.15"] if spawner.user.name == "ada" else ["v2.7"],
    )
    status, message = await start(hub_env, "ada", {"gpus": 0})
    assert (status, message) == (409, "You may not use the release v2.7: choose one of v2.15.")
    assert (await start(hub_env, "bob", {"gpus": 0}))[0] == 201
    shown = {}
    for name in ("ada", "cleo"):
        async with hub_env.browser() as browser:
            await join(hub_env, browser, name)
            page = parse((await browser.get(f"/hub/spawn/{name}")).text)
            assert ("You may start no release" in page.text) is (name == "ada")
        shown[name] = [option["value"] for option in page.select("#spawn_form #release option")]
    assert shown == {"ada": [], "cleo": ["v2.7"]}
