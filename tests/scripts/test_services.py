"""Services: each has its own identity, networks and secrets, and the versions under them are recent."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from spawner.policy import uids
from spawner.settings import Settings, variable_name
from testing.paths import ROOT
from testing.stack import run

SERVICES = {"hub": uids.HUB_UID, "proxy": uids.PROXY_UID, "gpu-agent": uids.AGENT_UID}
SHARED_NETWORKS = {
    ("hub", "proxy"): {"control", "users"},
    ("gpu-agent", "hub"): {"agent"},
}
SHARED_VOLUMES = {("broker", "hub"): {"data", "run"}, ("broker", "guard"): {"guard"}}
SECRET_SETTINGS = {variable_name(one) for one in fields(Settings) if one.metadata["is_secret"]}
# they need capabilities, which Docker gives to root only: the broker the socket, the guard the firewall
ROOT_SERVICES = {"broker": ["CHOWN", "DAC_OVERRIDE"], "guard": ["NET_ADMIN"]}


FILE_NAMES = {"WORKBENCH_TLS_KEY"}


def described(*files: str) -> dict[str, Any]:
    words = [word for file in files for word in ("--file", file)]
    done = run(
        "/usr/bin/docker", "compose", "--env-file", "/dev/null", *words, "config", "--format", "json",
        cwd=ROOT, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    return described("docker-compose.yml")


def uid_of(service: dict[str, Any]) -> int:
    if "user" in service:
        return int(service["user"].partition(":")[0])
    (name,) = re.findall(r"^gpu-workbench-(\w+):local$", service["image"])
    text = (ROOT / "images" / name / "Dockerfile").read_text()
    users = re.findall(r"^USER (\d+):\1$", text, re.M)
    return int(users[-1]) if users else 0


def mounts(service: dict[str, Any]) -> set[str]:
    return {mount["source"] for mount in service.get("volumes", [])}


def test_each_service_has_a_uid_above_those_of_people(stack: dict[str, Any]) -> None:
    found = {name: uid_of(service) for name, service in stack.items()}
    assert found == SERVICES | dict.fromkeys(ROOT_SERVICES, 0)
    assert {
        name: service["cap_add"] for name, service in stack.items() if service.get("cap_add")
    } == ROOT_SERVICES
    assert min(SERVICES.values()) > uids.LAST_ACCOUNT_UID


def test_the_scripts_hand_files_to_the_same_uids() -> None:
    text = (ROOT / "scripts/lib/stack.sh").read_text()
    assert re.findall(r"^(\w+)_uid=(\d+)$", text, re.M) == [
        ("hub", str(uids.HUB_UID)),
        ("proxy", str(uids.PROXY_UID)),
        ("tls", str(uids.TLS_UID)),
    ]


def test_services_share_a_network_only_where_one_calls_the_other(stack: dict[str, Any]) -> None:
    for pair in combinations(sorted(stack), 2):
        first, second = (set(stack[name].get("networks") or ()) for name in pair)
        assert first & second == SHARED_NETWORKS.get(pair, set()), pair


def test_services_share_no_files_without_need(stack: dict[str, Any]) -> None:
    for pair in combinations(sorted(stack), 2):
        first, second = (mounts(stack[name]) for name in pair)
        assert first & second == SHARED_VOLUMES.get(pair, set()), pair


def test_the_ledger_s_address_is_where_the_ledger_is_read(stack: dict[str, Any]) -> None:
    """It may hold a password."""
    told = {
        name for name, one in stack.items() if SECRET_SETTINGS & set(one.get("environment") or ())
    }
    assert told == {"hub", "broker"}


def test_no_secret_is_in_a_services_description(stack: dict[str, Any]) -> None:
    for service in stack.values():
        secret = [name for name in service.get("environment") or {} if re.search("TOKEN|KEY", name)]
        assert set(secret) <= FILE_NAMES
        assert not service.get("env_file")


def test_the_tls_service_alone_has_the_key_and_the_ports(stack: dict[str, Any]) -> None:
    with_tls = described("docker-compose.yml", "docker-compose.tls.yml")
    tls = with_tls.pop("tls")
    assert uid_of(tls) == uids.TLS_UID
    assert tls["cap_drop"] == ["ALL"]
    assert tls["read_only"] is True
    assert tls["security_opt"] == ["no-new-privileges:true"]
    assert not any(service.get("ports") for service in with_tls.values())
    assert not any(mounts(tls) & mounts(service) for service in with_tls.values())
    linked = {
        name
        for name, service in with_tls.items()
        if set(tls["networks"]) & set(service.get("networks") or ())
    }
    assert linked == {"proxy"}
    assert stack["proxy"]["ports"]


def test_the_locks_meet_the_minimum_versions() -> None:
    minimum = dict(
        re.findall(
            r"^least_(\w+)=([\d.]+)", (ROOT / "scripts/lib/minimum-versions.sh").read_text(), re.M
        )
    )
    locks = [ROOT / "images/hub/requirements.lock", *ROOT.glob("images/pytorch-cuda/*/lab.lock")]
    for package in ("jupyterhub", "jupyter_server"):
        found = [version for lock in locks for version in locked_versions(lock, package)]
        assert found
        assert all(as_numbers(version) >= as_numbers(minimum[package]) for version in found)


def locked_versions(lock: Path, package: str) -> list[str]:
    return re.findall(rf"^{package.replace('_', '-')}==([\d.]+)", lock.read_text(), re.M)


def as_numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
