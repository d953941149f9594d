"""Extras: the closed schema of what a site file adds to a server, whatever the bounds allow."""

import json
from typing import Any

import pytest

from spawner.model import ExtrasError
from spawner.policy.extras import ExtraMount, Extras, format_extras, parse_extras, redact

FULL: dict[str, Any] = {
    "mounts": [{"source": "/srv/data", "target": "/data/sets", "read_only": True}],
    "environment": {"TEAM": "vision"},
    "memory_bytes": 2 * 1024**3,
    "cpus": 2.5,
    "args": ["--ServerApp.x=1"],
    "host_config": {
        "ShmSize": 1024**3,
        "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}],
        "Dns": ["10.0.0.1"],
        "DnsSearch": ["lab.example"],
        "ExtraHosts": ["files.lab.example:10.0.0.2"],
        "CpuShares": 512,
        "CpusetCpus": "0-3,7",
        "BlkioWeight": 100,
        "OomScoreAdj": 500,
        "Tmpfs": {"/scratch": "size=1g,mode=1777"},
    },
}


def test_a_text_gives_back_what_was_written() -> None:
    extras = parse_extras(format_extras(FULL))
    assert extras.mounts == (ExtraMount("/srv/data", "/data/sets", read_only=True),)
    assert (extras.environment, extras.memory_bytes) == ({"TEAM": "vision"}, 2 * 1024**3)
    assert (extras.cpus, extras.args) == (2.5, ("--ServerApp.x=1",))
    assert extras.host_config == FULL["host_config"]


def test_nothing_set_is_an_empty_text() -> None:
    assert format_extras({"mounts": [], "environment": {}, "cpus": None}) == ""
    assert parse_extras("") == Extras()


@pytest.mark.parametrize(
    "target",
    [
        "/", "/etc", "/etc/x", "/home/researcher", "/home/researcher/data", "/tmp/x", "/run/docker.sock",
        "/var/run/docker.sock", "/proc/self", "/sys", "/dev/shm", "/usr/lib", "/lib/x", "/data/../etc", "/data/./x",
        "//etc", "data", "/data/", "", "/data\n", "/opt/pytorch",
    ],
)  # fmt: skip
def test_nothing_is_mounted_over_the_servers_own_folders(target: str) -> None:
    for raw in (
        {"mounts": [{"source": "/srv/data", "target": target}]},
        {"host_config": {"Tmpfs": {target: ""}}},
    ):
        with pytest.raises(ExtrasError):
            parse_extras(json.dumps(raw))


@pytest.mark.parametrize(
    ("one", "other"), [("/data", "/data/a"), ("/data/a", "/data"), ("/d", "/d")]
)
def test_no_target_lies_in_another_that_could_hold_a_link(one: str, other: str) -> None:
    mounts = [{"source": "/srv/a", "target": one}, {"source": "/srv/b", "target": other}]
    with pytest.raises(ExtrasError, match="lie in each other"):
        parse_extras(json.dumps({"mounts": mounts}))
    with pytest.raises(ExtrasError, match="lie in each other"):
        parse_extras(json.dumps({"mounts": mounts[:1], "host_config": {"Tmpfs": {other: ""}}}))


@pytest.mark.parametrize(
    "raw",
    [
        {"privileged": True},
        {"mounts": [{"source": "/srv", "target": "/data", "propagation": "shared"}]},
        {"mounts": [{"source": "/srv/../etc", "target": "/data"}]},
        {"mounts": [{"source": "-v", "target": "/data"}]},
        {"mounts": "none"},
        {"environment": {"JUPYTERHUB_API_TOKEN": "x"}},
        {"environment": {"JUPYTERHUB_SINGLEUSER_APP": "x"}},
        {"environment": {"NVIDIA_VISIBLE_DEVICES": "all"}},
        {"environment": {"HOME": "/"}},
        {"environment": {"A=B": "x"}},
        {"environment": {"A": 1}},
        {"memory_bytes": 1},
        {"memory_bytes": True},
        {"cpus": 0},
        {"cpus": float("nan")},
        {"args": ["jupyter"]},
        {"host_config": {"Privileged": True}},
        {"host_config": {"CapAdd": ["ALL"]}},
        {"host_config": {"Devices": []}},
        {"host_config": {"OomScoreAdj": -1000}},
        {"host_config": {"ExtraHosts": ["hub:10.0.0.1"]}},
        {"host_config": {"ExtraHosts": ["x:host-gateway"]}},
        {"host_config": {"Tmpfs": {"/scratch": "suid"}}},
        {"host_config": {"Ulimits": [{"Name": "core", "Soft": -1, "Hard": -1}]}},
        [],
    ],
)
def test_everything_else_is_refused(raw: Any) -> None:
    with pytest.raises(ExtrasError):
        parse_extras(json.dumps(raw))


def test_no_text_is_too_odd() -> None:
    for text in ("{", "[" * 100000, " " * 70000):
        with pytest.raises(ExtrasError):
            parse_extras(text)


def test_the_trail_has_the_names_of_variables_alone() -> None:
    text = format_extras({"environment": {"KEY": "hush"}, "cpus": 2})
    assert json.loads(redact(text)) == {"environment": ["KEY"], "cpus": 2}
    assert redact("") == ""
