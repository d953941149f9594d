"""The life of a real instance: a start that fails, one that works, again, down, up, purge."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from spawner.policy.uids import HUB_UID, PROXY_UID
from testing.paths import ROOT
from testing.ports import free_port
from testing.stack import docker, run

INSTANCE = "wbscripts"
STATE = Path("/var/lib") / INSTANCE
PORT = free_port()
REACH = """
import socket, sys
for place in sys.argv[1:]:
    host, port = place.split(":")
    try:
        socket.create_connection((host, int(port)), 2)
    except OSError:
        continue
    print(place)
"""


def script(name: str, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    mine = {
        "WORKBENCH_INSTANCE": INSTANCE,
        "WORKBENCH_PORT": str(PORT),
        "WORKBENCH_BIND": "127.0.0.1",
    }
    return run(str(ROOT / "scripts" / name), *options, env={**os.environ, **mine, **settings})


def up(**settings: str) -> subprocess.CompletedProcess[str]:
    return script("up", "--no-install", "--simulate-gpus", "1", **settings)


def containers() -> list[str]:
    listed = docker(
        "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={INSTANCE}"
    )
    return sorted(listed.split())


def volumes() -> set[str]:
    return {
        name
        for name in docker("volume", "ls", "--quiet").split()
        if name.startswith(f"{INSTANCE}-")
    }


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    script("down", "--purge", "--yes")
    yield
    script("down", "--purge", "--yes")


def secrets() -> dict[str, str]:
    """Return the secrets by service and name; each is its service's own to read."""
    found = {}
    for file in (STATE / "secrets").glob("*/*"):
        owner = {"hub": HUB_UID, "proxy": PROXY_UID}[file.parent.name]
        assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (owner, 0o400)
        found[f"{file.parent.name}/{file.name}"] = file.read_text()
    return found


def test_a_failed_start_gives_the_reason_and_leaves_nothing_to_trip_on() -> None:
    refused = up(WORKBENCH_AUTHENTICATOR="nonsense")
    assert refused.returncode == 2
    assert "no authenticator with this name is installed" in refused.stderr
    assert "Nothing that runs was changed." in refused.stderr
    assert containers() == []
    # the configuration is right; a database that is away shows only at the start
    failed = up(WORKBENCH_LEDGER_URL="postgresql+psycopg://hub:x@127.0.0.1:1/ledger")
    assert failed.returncode == 1
    assert "--- hub is " in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("error: The workbench did not start")
    assert "password" not in failed.stdout
    assert containers() == []
    worked = up()
    assert worked.returncode == 0, worked.stderr
    assert "password" in worked.stdout


def test_a_second_run_changes_nothing_and_down_keeps_the_data(tmp_path: Path) -> None:
    first = up()
    assert first.returncode == 0, first.stderr
    assert f"The workbench is running at http://127.0.0.1:{PORT}" in first.stdout
    assert "1 SIMULATED GPU:" in first.stdout
    running, kept = containers(), secrets()
    assert sorted(kept) == [
        "hub/CONFIGPROXY_AUTH_TOKEN",
        "hub/JUPYTERHUB_CRYPT_KEY",
        "proxy/CONFIGPROXY_AUTH_TOKEN",
    ]
    assert not any(secret in first.stdout + first.stderr for secret in kept.values())

    second = up()
    assert f"The workbench is already running at http://127.0.0.1:{PORT}" in second.stdout
    assert "password" not in second.stdout
    assert containers() == running

    refused = up(WORKBENCH_SHM_SIZE="2G", WORKBENCH_MEMORY_LIMIT="1G")
    assert refused.returncode == 2
    assert "WORKBENCH_SHM_SIZE is larger than WORKBENCH_MEMORY_LIMIT" in refused.stderr
    assert containers() == running, "what runs is not touched before the settings are known good"
    for wrong, why in (
        ("c.JupyterHub.admin_access = ", "site.py, line 1"),
        ("c.DockerSpawner.privileged = True", "c.DockerSpawner.privileged"),
    ):
        (tmp_path / "site.py").write_text(wrong)
        refused = up(WORKBENCH_CONFIG_DIR=str(tmp_path))
        assert refused.returncode == 2
        assert why in refused.stderr
        assert "Nothing that runs was changed." in refused.stderr
        assert containers() == running
    assert httpx.get(f"http://127.0.0.1:{PORT}/hub/health").is_success

    down = script("down")
    assert down.returncode == 0, down.stderr
    assert containers() == []
    assert volumes() == {f"{INSTANCE}-{name}" for name in ("data", "guard", "run")}

    third = up()
    assert third.returncode == 0, third.stderr
    assert "password" not in third.stdout
    assert secrets() == kept


def test_the_dev_loop_needs_a_running_workbench_and_leaves_the_proxy() -> None:
    assert "does not run: start it with scripts/up." in script("dev", "hub").stderr
    assert up().returncode == 0
    running = set(containers())
    done = script("dev", "hub")
    assert done.returncode == 0, done.stderr
    kept = running.intersection(containers())
    assert len(kept) >= len(running) - 1, "no service but the hub is restarted"
    panel = script("dev", "panel")
    assert panel.returncode == 1
    assert panel.stderr.splitlines()[-1] == (
        "error: No server runs: start one on Home and run this again."
    )


def test_a_server_is_stopped_and_a_purge_removes_all_of_the_instance() -> None:
    assert up().returncode == 0
    home = f"{INSTANCE}-home-ada-20000"
    label = f"workbench.instance={INSTANCE}"
    neighbour = (
        f"{INSTANCE}-home-ada-20000-home-eve-20001"  # of an instance whose name begins the same
    )
    docker("volume", "create", "--label", label, "--label", "workbench.user=ada", home)
    docker("volume", "create", "--label", f"{label}-home-ada-20000", neighbour)
    docker(
        "run",
        "--detach",
        "--label",
        label,
        "--volume",
        f"{home}:/home",
        "debian:bookworm-slim",
        "sleep",
        "99",
    )
    refused = subprocess.run(
        [ROOT / "scripts/down", "--purge"], input="no\n", capture_output=True, text=True, check=False,
        env={**os.environ, "WORKBENCH_INSTANCE": INSTANCE},
    )  # fmt: skip
    assert refused.returncode == 1
    assert ": 1 home," in refused.stdout
    assert len(containers()) == 5
    assert docker("ps", "--quiet", "--filter", f"label={label}")

    assert script("down").returncode == 0
    assert docker("ps", "--all", "--quiet", "--filter", f"label={label}") == ""
    assert home in volumes()

    purged = script("down", "--purge", "--yes")
    assert purged.returncode == 0, purged.stderr
    assert volumes() == {neighbour}
    docker("volume", "rm", neighbour)
    assert not STATE.exists()
    assert not Path(f"/etc/cdi/{INSTANCE}-simulated.json").exists()
    assert INSTANCE not in docker("network", "ls")


def test_a_port_that_another_container_publishes_is_named() -> None:
    name = f"{INSTANCE}-holder"
    docker(
        "run",
        "--detach",
        "--name",
        name,
        "--publish",
        f"127.0.0.1:{PORT}:80",
        "debian:bookworm-slim",
        "sleep",
        "99",
    )
    try:
        taken = up()
    finally:
        docker("rm", "--force", name)
    assert taken.returncode == 1
    assert taken.stderr == (
        f"error: Port {PORT} is taken by the container {name}: stop it, or set WORKBENCH_PORT to another port.\n"
    )


def test_a_users_container_reaches_the_hub_and_no_port_of_the_proxy() -> None:
    assert up().returncode == 0
    reached = docker(
        *("run", "--rm", "--network", f"{INSTANCE}-users", "gpu-workbench-hub:local"),
        *("python3", "-c", REACH, "hub:8081", "proxy:8000", "proxy:8001", "proxy-api:8001"),
    )
    assert reached.split() == ["hub:8081"]
