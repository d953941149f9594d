"""The scripts' own copies of a rule agree with its source: settings, Compose file, shell syntax."""

import json
import re
import shlex
from typing import Any

import pytest

from spawner.model import SettingsError
from spawner.policy.probe_container import HUB_IMAGE
from spawner.settings import Settings, read_profile
from testing.paths import ROOT
from testing.stack import run
from tests.scripts.conftest import BareMachine

COMPOSE = (ROOT / "docker-compose.yml").read_text()
EXAMPLE = dict(re.findall(r"^#(WORKBENCH_\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.M))
VALUES = {
    "WORKBENCH_INSTANCE": ["a", "ab", "a-", "1a", "team-2", "x" * 20, "x" * 21, "ä", ""],
    "WORKBENCH_PROFILE": ["team", "", "Team", "students "],
    "WORKBENCH_BIND": ["127.0.0.1", "::1", "localhost", "", "0.0.0.0:80"],
    "WORKBENCH_PORT": ["1", "65535", "0", "65536", "080", "1.5", "+1", "99999999999", ""],
    "WORKBENCH_PUBLIC_URL": [
        "",
        "https://lab.test",
        "http://10.0.0.1:80",
        "lab.test",
        "https://a/b",
        "https://a/b/",
        "https://a/b?c",
        "https://a//b",
    ],
    "WORKBENCH_TLS": ["off", "on", ""],
    "WORKBENCH_HTTP_PORT": ["80", "0", "http"],
    "WORKBENCH_USER_DOMAINS": ["no", "maybe", ""],
    "WORKBENCH_RELEASES": ["", "v2.7", "v2.7  v2.15", "2.7", "v2.7,v2.15", "v2.7 latest", "v"],
    "WORKBENCH_MAX_GPUS": ["", "0", "1024", "1025", "-1", "two", "NaN", "1e3"],
    "WORKBENCH_MEMORY_LIMIT": ["512M", "1.5T", "32g", "G", "1GB", "1 G", "-1G", ""],
    "WORKBENCH_CPU_LIMIT": ["", "4", "7.25", "7.255", "12345", ".5", "-1", "inf"],
    "WORKBENCH_PIDS_LIMIT": ["64", "63", "4194304", "4194305"],
    "WORKBENCH_FIRST_UID": ["1000", "999", "2000000", "2000001"],
    "WORKBENCH_START_TIMEOUT": ["10", "9", "3600", "3601", "1m"],
    "WORKBENCH_PORTS": ["1"],
}


def accepts(name: str, value: str) -> bool:
    try:
        Settings.from_environ({name: value, "WORKBENCH_SHM_SIZE": "1M"})
    except SettingsError:
        return False
    return True


def test_shell_and_python_accept_the_same_settings(machine: BareMachine) -> None:
    """All values go through one container: each prints whether the scripts take it."""
    cases = [(name, value) for name, values in VALUES.items() for value in values]
    look = (
        "set -eu; repository=$PWD; . scripts/lib/terminal.sh; . scripts/lib/settings.sh\n"
        + "".join(
            f"(export {name}={shlex.quote(value)}; load_settings) 2>/dev/null && echo yes || echo no\n"
            for name, value in cases
        )
    )
    answers = [answer == "yes" for answer in machine.run(look).stdout.split()]
    assert dict(zip(cases, answers, strict=True)) == {case: accepts(*case) for case in cases}


def test_shell_and_python_read_the_same_profile(machine: BareMachine) -> None:
    look = (
        "set -eu; repository=$PWD; . scripts/lib/terminal.sh; . scripts/lib/settings.sh\n"
        "export WORKBENCH_PROFILE=students WORKBENCH_EGRESS=open; load_settings; env | grep ^WORKBENCH_"
    )
    said = dict(line.split("=", 1) for line in machine.run(look).stdout.splitlines())
    assert said == {
        **read_profile("students"),
        "WORKBENCH_PROFILE": "students",
        "WORKBENCH_EGRESS": "open",
    }


def test_compose_passes_on_every_setting_and_no_other() -> None:
    listed = re.findall(r"^  (WORKBENCH_\w+):$", COMPOSE, re.M)
    assert listed == list(EXAMPLE)


def test_defaults_written_in_the_compose_file_are_the_settings_own() -> None:
    written = set(re.findall(r"\$\{(WORKBENCH_\w+):-([^}]*)\}", COMPOSE))
    assert written
    assert written <= set(EXAMPLE.items())


def configured(instance: str) -> dict[str, Any]:
    command = (
        "/usr/bin/docker",
        "compose",
        "--env-file",
        "/dev/null",
        "config",
        "--format",
        "json",
    )
    environment = {"PATH": "/usr/bin:/bin", "WORKBENCH_INSTANCE": instance}
    done = run(*command, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    stack: dict[str, Any] = json.loads(done.stdout)
    return stack


def test_instances_share_no_name() -> None:
    stack = configured("second")
    assert stack["name"] == "second"
    assert {volume["name"] for volume in stack["volumes"].values()} == {
        "second-data",
        "second-run",
        "second-guard",
    }
    assert {net["name"] for net in stack["networks"].values()} == {
        "second-control",
        "second-agent",
        "second-users",
    }
    assert {name for name, net in stack["networks"].items() if net.get("internal")} == {
        "control",
        "agent",
    }


def test_the_network_of_the_servers_has_no_way_between_them() -> None:
    users = configured("workbench")["networks"]["users"]
    assert users["driver_opts"]["com.docker.network.bridge.enable_icc"] == "false"
    assert not users.get("enable_ipv6")


def test_the_guard_has_the_host_s_network_and_one_capability() -> None:
    guard = configured("workbench")["services"]["guard"]
    assert (guard["network_mode"], guard["cap_add"]) == ("host", ["NET_ADMIN"])
    assert {mount["target"] for mount in guard["volumes"]} == {
        "/run/guard",
        "/etc/resolv.conf",
        "/run/systemd/resolve",
    }


def test_probes_run_on_the_image_of_the_hub() -> None:
    assert configured("workbench")["services"]["hub"]["image"] == HUB_IMAGE


def test_up_refuses_before_it_takes_the_data_from_a_running_hub() -> None:
    words = (ROOT / "scripts/up").read_text().split()
    assert words.index("replace_old_networks") < words.index("ensure_data_owner")


def test_no_service_imports_from_its_working_folder() -> None:
    """The broker, root with Docker's socket, has the folder in which the hub may write a ``socket.py``."""
    assert configured("workbench")["services"]["broker"]["working_dir"] == "/"
    for image in ("hub", "agent", "guard"):
        assert "PYTHONSAFEPATH=1" in (ROOT / f"images/{image}/Dockerfile").read_text(), image


@pytest.mark.parametrize("service", ["proxy", "hub", "broker", "gpu-agent", "guard"])
def test_services_are_hardened(service: str) -> None:
    described = configured("workbench")["services"][service]
    assert described["cap_drop"] == ["ALL"]
    assert described["security_opt"] == ["no-new-privileges:true"]
    assert described["read_only"] is True
    assert described["logging"]["options"]["max-size"]
    assert "healthcheck" in described
    has_socket = any("docker.sock" in mount["source"] for mount in described.get("volumes", []))
    assert has_socket == (service == "broker")


@pytest.mark.parametrize(
    ("url", "network"),
    [("sqlite:////data/ledger.sqlite", "none"), ("postgresql+psycopg://u:p@host/db", "bridge")],
)
def test_the_broker_has_a_network_only_where_its_ledger_is_on_one(url: str, network: str) -> None:
    look = (
        "set -euo pipefail; repository=$PWD; for part in terminal settings tls stack; do\n"
        ". scripts/lib/$part.sh; done; load_settings; compose --env-file /dev/null config --format json"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "WORKBENCH_INSTANCE": "second",
        "WORKBENCH_LEDGER_URL": url,
    }
    done = run("bash", "-c", look, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert services["broker"]["network_mode"] == network
    assert services["broker"]["environment"]["WORKBENCH_LEDGER_URL"] == url
    egress = services["guard"]["command"][-2:]
    assert egress == ["--hub-egress", "no" if network == "none" else "yes"]
    knowing = {name for name, one in services.items() if url in json.dumps(one)}
    assert knowing == {"hub", "broker"}, "a service that opens no ledger has its password"


@pytest.mark.parametrize("script", ["up", "down", "test"])
def test_help_is_printed(machine: BareMachine, script: str) -> None:
    outcome = machine.run(f"scripts/{script} --help")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith(f"usage: scripts/{script}")
