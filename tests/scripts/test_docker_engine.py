"""How scripts/up finds Docker, switches CDI on, starts it, and what it says when it may not or cannot."""

import json

import pytest

from tests.scripts.conftest import DOCKER_STUB, BareMachine

ENSURE = """
set -euo pipefail
repository=$PWD lib=$PWD/scripts/lib
for part in terminal settings packages docker; do . "$lib/$part.sh"; done
load_settings
ensure_docker {may_install} {may_restart}
"""


def ensure(may_install: str = "yes", may_restart: str = "no") -> str:
    return ENSURE.format(may_install=may_install, may_restart=may_restart)


def test_no_docker_and_no_install(machine: BareMachine) -> None:
    outcome = machine.run("scripts/up --no-install")
    assert outcome.code == 1
    assert outcome.error.startswith(
        "error: There is no Docker Engine here and --no-install forbids installing it:"
    )
    assert not outcome.changed


@pytest.mark.parametrize("version", ["20.10.24+dfsg1", "24.0.9"])
def test_docker_too_old(docker_machine: BareMachine, version: str) -> None:
    docker_machine.environment["ENGINE_VERSION"] = version
    outcome = docker_machine.run("scripts/up")
    assert outcome.code == 1
    assert outcome.error == (
        f"error: Docker Engine {version} is too old: GPUs are handed out through CDI, which needs 25 or newer; "
        "upgrade Docker and run this again."
    )
    assert not outcome.changed


@pytest.mark.parametrize("version", ["25.0.0", "26.1.5+dfsg1", "29.0.0-rc1"])
def test_docker_that_will_do_is_left_alone(docker_machine: BareMachine, version: str) -> None:
    docker_machine.environment["ENGINE_VERSION"] = version
    outcome = docker_machine.run(ensure())
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", "")
    assert not outcome.changed


def test_up_says_which_holes_runc_has(docker_machine: BareMachine) -> None:
    docker_machine.environment["RUNC_VERSION"] = "1.1.5+ds1"
    parts = ENSURE.replace("ensure_docker {may_install} {may_restart}", "note_runc_holes")
    outcome = docker_machine.run(parts)
    assert "runc 1.1.5 has known holes (CVE-2025-31133 CVE-2025-52565" in outcome.stdout
    docker_machine.environment["RUNC_VERSION"] = "1.3.6"
    assert docker_machine.run(parts).stdout == ""


@pytest.mark.parametrize("version", ["", "2.6.0", "v2.23.3"])
def test_no_compose_plugin(docker_machine: BareMachine, version: str) -> None:
    docker_machine.environment["COMPOSE_VERSION"] = version
    outcome = docker_machine.run("scripts/up")
    assert outcome.code == 1
    assert "Docker's compose plugin (2.24 or newer)" in outcome.error
    assert not outcome.changed


def test_a_client_without_plugins_is_passed_over(docker_machine: BareMachine) -> None:
    docker_machine.stub("docker", 'echo "unknown command" >&2; exit 1')
    docker_machine.files["/usr/local/sbin/docker"] = f"#!/bin/bash\n{DOCKER_STUB}"
    outcome = docker_machine.run("chmod +x /usr/local/sbin/docker\n" + ensure() + "type -p docker")
    assert (outcome.code, outcome.stdout) == (0, "/usr/local/sbin/docker\n")


def test_docker_that_does_not_run_is_started_with_cdi(docker_machine: BareMachine) -> None:
    docker_machine.environment["NEEDS_DOCKERD"] = "yes"
    outcome = docker_machine.run(ensure() + "cat /etc/docker/daemon.json")
    assert outcome.code == 0, outcome.stderr
    assert "Starting Docker" in outcome.stdout
    assert json.loads(outcome.stdout.splitlines()[-1]) == {"features": {"cdi": True}}


def test_docker_that_cannot_start(docker_machine: BareMachine) -> None:
    docker_machine.environment["NEEDS_DOCKERD"] = "yes"
    docker_machine.stub("dockerd", "echo no storage driver >&2; exit 1")
    outcome = docker_machine.run(
        ensure().replace("ensure_docker", "await() { false; }; ensure_docker")
    )
    assert outcome.code == 1
    assert outcome.error == (
        "error: Docker does not answer within 60 s: see /var/log/dockerd.log or 'journalctl -u docker'."
    )


def test_cdi_off_and_no_install(docker_machine: BareMachine) -> None:
    docker_machine.environment["CDI_OFF"] = "yes"
    outcome = docker_machine.run("scripts/up --no-install")
    assert outcome.code == 1
    assert outcome.error.startswith("error: Docker has CDI switched off: add")
    assert not outcome.changed


def test_a_daemon_with_containers_is_not_restarted(docker_machine: BareMachine) -> None:
    docker_machine.environment |= {"CDI_OFF": "yes", "RUNNING": "0123456789ab"}
    outcome = docker_machine.run("scripts/up")
    assert outcome.code == 1
    assert "run this again with --restart-docker" in outcome.error
    assert not outcome.changed


@pytest.mark.parametrize(("running", "may_restart"), [("", "no"), ("0123456789ab", "yes")])
def test_cdi_is_switched_on_by_a_restart(
    docker_machine: BareMachine, running: str, may_restart: str
) -> None:
    docker_machine.environment |= {"CDI_OFF": "yes", "RUNNING": running}
    docker_machine.stub(
        "dockerd", "touch /tmp/dockerd.restarted; echo $$ >/var/run/docker.pid; exec sleep 60"
    )
    old = "sleep 60 & old=$!; echo $old >/var/run/docker.pid\n"
    outcome = docker_machine.run(
        old
        + ensure("yes", may_restart)
        + "kill -0 $old 2>/dev/null && echo old runs\ncat /etc/docker/daemon.json"
    )
    assert outcome.code == 0, outcome.stderr
    assert "Switching CDI on" in outcome.stdout
    assert "old runs" not in outcome.stdout
    assert json.loads(outcome.stdout.splitlines()[-1]) == {"features": {"cdi": True}}


def test_no_install_starts_docker_but_does_not_configure_it(docker_machine: BareMachine) -> None:
    docker_machine.environment |= {"NEEDS_DOCKERD": "yes", "CDI_OFF": "yes"}
    outcome = docker_machine.run(ensure("no"))
    assert "Starting Docker" in outcome.stdout
    assert outcome.error.startswith("error: Docker has CDI switched off: add")
    assert "/etc/docker" not in outcome.changed


def test_broken_daemon_settings_are_not_touched(docker_machine: BareMachine) -> None:
    docker_machine.environment["CDI_OFF"] = "yes"
    docker_machine.files["/etc/docker/daemon.json"] = "{not json"
    docker_machine.stub("jq", "exit 5")
    outcome = docker_machine.run(ensure())
    assert outcome.error == (
        "error: /etc/docker/daemon.json is not valid JSON: correct it (Docker reads it too) and run this again."
    )
    assert "/etc/docker/daemon.json" not in outcome.changed
