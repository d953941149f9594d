"""Bounds: what `bounds.toml` may say, and which extras it lets through."""

from typing import Any

import pytest

from spawner.model import SettingsError
from spawner.policy.bounds import Bounds, explain_excess, parse_bounds
from spawner.policy.container import ContainerLimits
from spawner.policy.extras import ExtraMount, Extras

GIB = 1024**3
LIMITS = ContainerLimits(memory_bytes=4 * GIB, cpus=4.0, pids=64, shm_bytes=GIB)
BOUNDS = parse_bounds(
    {
        "mounts": [
            {"source": "/srv/sets"},
            {"source": "/srv/team", "read_only": False},
            {"volume": "team-*", "read_only": False},
        ],
        "memory": "8G",
        "cpus": 8,
        "environment": ["HF_HOME", "TEAM_*"],
        "args": ["--ServerApp.x=*"],
        "host_config": ["ShmSize"],
    },
    "workbench",
)


def mount(source: str, *, read_only: bool = True) -> Extras:
    return Extras(mounts=(ExtraMount(source, "/data", read_only),))


@pytest.mark.parametrize(
    "extras",
    [
        mount("/srv/sets"),
        mount("/srv/sets/imaging"),
        mount("/srv/team", read_only=False),
        mount("team-vision", read_only=False),
        Extras(memory_bytes=8 * GIB, cpus=8.0),
        Extras(environment={"HF_HOME": "/data", "TEAM_NAME": "x"}),
        Extras(args=("--ServerApp.x=1",)),
        Extras(host_config={"ShmSize": 2 * GIB}),
    ],
)
def test_extras_within_the_bounds_pass(extras: Extras) -> None:
    assert explain_excess(extras, BOUNDS, LIMITS) is None


@pytest.mark.parametrize(
    ("extras", "why"),
    [
        (mount("/srv/sets", read_only=False), "/srv/sets as a writable source"),
        (mount("/srv/sets2"), "/srv/sets2 as a read-only source"),
        (mount("/srv"), "/srv as a read-only source"),
        (mount("other"), "other as a read-only source"),
        (Extras(memory_bytes=9 * GIB), "mem_limit"),
        (Extras(cpus=9.0), "cpu_limit is 9, and cpus allows 8"),
        (Extras(environment={"LD_PRELOAD": "x"}), "environment does not allow LD_PRELOAD"),
        (Extras(args=("--allow-root",)), "args does not allow --allow-root"),
        (Extras(host_config={"Dns": ["1.1.1.1"]}), "host_config does not allow Dns"),
        (Extras(host_config={"ShmSize": 5 * GIB}), "ShmSize is larger than the memory"),
    ],
)
def test_extras_outside_are_named(extras: Extras, why: str) -> None:
    assert why in (explain_excess(extras, BOUNDS, LIMITS) or "")


@pytest.mark.parametrize(
    "extras",
    [
        mount("/srv/sets"),
        Extras(memory_bytes=4 * GIB + 1),
        Extras(cpus=4.5),
        Extras(environment={"A": "b"}),
        Extras(host_config={"ShmSize": GIB}),
    ],
)
def test_without_a_file_nothing_goes_beyond_the_settings(extras: Extras) -> None:
    assert explain_excess(extras, Bounds(), LIMITS) is not None
    assert explain_excess(Extras(memory_bytes=4 * GIB, cpus=4.0), Bounds(), LIMITS) is None


@pytest.mark.parametrize(
    "source",
    ["/", "/var", "/var/run", "/run/docker.sock", "/var/lib/docker/volumes", "/var/lib", "/etc", "/proc", "/sys",
     "/root", "/var/lib/workbench", "/srv/../etc", "srv", "/tmp", 1],
)  # fmt: skip
def test_no_bound_opens_the_hosts_own_folders(source: Any) -> None:
    with pytest.raises(SettingsError):
        parse_bounds({"mounts": [{"source": source}]}, "workbench")


@pytest.mark.parametrize(
    "volume", ["workbench-home-ada-20000", "workbench-*", "w*", "*", "workbench-data", ""]
)
def test_no_bound_opens_the_workbenchs_own_volumes(volume: str) -> None:
    with pytest.raises(SettingsError):
        parse_bounds({"mounts": [{"volume": volume}]}, "workbench")


@pytest.mark.parametrize(
    "raw",
    [
        {"memry": "1G"},
        {"memory": "1"},
        {"memory": 1},
        {"cpus": "8"},
        {"cpus": 0},
        {"environment": "HF_HOME"},
        {"environment": ["*"]},
        {"host_config": ["Privileged"]},
        {"mounts": {}},
        {"mounts": [{}]},
        {"mounts": [{"source": "/srv/a", "volume": "b"}]},
        {"mounts": [{"source": "/srv/a", "read_only": "no"}]},
    ],
)
def test_a_wrong_entry_is_one_sentence(raw: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"^bounds\.toml[^\n]+\.$"):
        parse_bounds(raw, "workbench")
