"""A damaged home starts: a server answers, a terminal executes commands, and the log says what is ignored."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from spawner.catalog import Release
from testing.scale import at_scale
from tests.images.conftest import docker

PROBE = Path(__file__).with_name("probe_server.py").read_text(encoding="utf-8")
CONFIG = "mkdir .jupyter; cd .jupyter; "
IMAGE_ALONE = "/opt/pytorch"
EXIT = "import os; os._exit(9)"

DAMAGE = {
    "jupyter is a file": ("touch .jupyter", "~/.jupyter cannot be used"),
    "bash ends": ("echo exit 7 | tee .bashrc .profile >.bash_profile", ""),
    "settings end the server": (
        f"{CONFIG} echo '{EXIT}' >jupyter_server_config.py",
        "start before",
    ),
    "packages shadow the server": ("mkdir -p $S; echo 'raise SystemExit(9)' >$S/tornado.py", ""),
    "workbench is a file": ("touch .workbench", "cannot be made (Not a directory)"),
    "root has the home": ("chown 0:0 .; chmod 755 .", "is not writable for uid 1000"),
    "local is a file": ("touch .local", "~/.local/share/jupyter cannot be used"),
    "share is a file": (
        "mkdir .local; touch .local/share",
        "~/.local/share/jupyter cannot be used",
    ),
    "ipython is a file": ("touch .ipython", "~/.ipython cannot be used"),
    "config is a file": ("touch .config", "~/.config cannot be used"),
    "cache is a file": ("touch .cache", "~/.cache cannot be used"),
    "packages is a file": ("mkdir .workbench; touch .workbench/packages", "cannot be made"),
    "jupyter leads nowhere": ("ln -s /nowhere .jupyter", "~/.jupyter cannot be used"),
    "jupyter leads to itself": ("ln -s .jupyter .jupyter", "~/.jupyter cannot be used"),
    "local leads nowhere": ("ln -s /nowhere .local", "~/.local/share/jupyter cannot be used"),
    "workbench leads nowhere": ("ln -s /nowhere .workbench", "cannot be made (File exists)"),
    "jupyter without rights": ("mkdir -m 0 .jupyter", "~/.jupyter cannot be used"),
    "workbench without rights": ("mkdir -m 0 .workbench", "cannot be made (Permission denied)"),
    "home without rights": ("chmod 0 .", "is not writable for uid 1000"),
    "home read-only": ("chmod 500 .", "is not writable for uid 1000"),
    "settings with a wrong syntax": (f"{CONFIG} echo 'c = (' >jupyter_server_config.py", ""),
    "settings that fail": (f"{CONFIG} echo '1/0' >jupyter_server_config.py", ""),
    "JSON settings cut off": (f"{CONFIG} echo '{{' >jupyter_server_config.json", ""),
    "JSON settings are a list": (f"{CONFIG} echo '[]' >jupyter_server_config.json", "start before"),
    "settings of a wrong type": (
        f"{CONFIG} echo 'c.ServerApp.jpserver_extensions = 3' >jupyter_server_config.py",
        "start before",
    ),
    "settings name no folder": (
        f"{CONFIG} echo 'c.ServerApp.root_dir = \"/nowhere\"' >jupyter_server_config.py",
        "start before",
    ),
    "settings are random": (
        f"{CONFIG} printf '\\377\\376' | tee jupyter_server_config.json >jupyter_server_config.py",
        "start before",
    ),
    "settings are folders": (f"{CONFIG} mkdir jupyter_server_config.py labconfig lab", ""),
    "bash with a wrong syntax": ("echo 'if [' | tee .bashrc >.bash_profile", ""),
    "bash becomes nothing": ("echo 'exec /nowhere' >.bash_profile", ""),
    "environment without an interpreter": ("mkdir -p $P/bin; ln -s /nowhere $P/bin/python3", ""),
    "interpreter is a folder": ("mkdir -p $P/bin/python3", "cannot be made"),
    "programs of the start": (
        "mkdir -p $P/bin; cd $P/bin; echo 'exit 9' | tee entrypoint make-environment setpriv; chmod 755 *",
        "",
    ),
    "environment is a pipe": ("mkdir -p $P; mkfifo $P/pyvenv.cfg", ""),
    "modules in the home": ("for m in tornado json site; do echo '1/0' >$m.py; done", ""),
    "packages of an earlier image": ("mkdir -p .local/$R/lib", "from an earlier image"),
    "kernel python3 of the home": (
        "mkdir -p .local/share/jupyter/kernels/python3; echo '{' >.local/share/jupyter/kernels/python3/kernel.json",
        "",
    ),
    "signatures are a folder": ("mkdir -p .local/share/jupyter/nbsignatures.db", ""),
    "history is text": (
        "mkdir -p .ipython/profile_default; echo x >.ipython/profile_default/history.sqlite",
        "",
    ),
}
"""By its name: commands of root in the new home, and what the log says."""


@pytest.fixture
def name() -> Iterator[str]:
    """A container's name; the container goes when the test ends."""
    name = f"workbench-test-{uuid4().hex}"
    yield name
    subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True)


def damage_home(release: Release, volume: str, commands: str) -> None:
    packages = f".workbench/packages/{release.name}"
    given = f"R={release.name}; P={packages}; S=$PWD/$P/lib/python{release.python}/site-packages;"
    ours = "chown -hR 1000:1000 /home/researcher"
    ours = ours if "chown" not in commands else "true"
    home = f"{volume}:/home/researcher"
    docker(
        *(
            "run",
            "--rm",
            "--user=0",
            "--entrypoint=sh",
            f"--volume={home}",
            "--workdir=/home/researcher",
        ),
        *(release.image, "-ec", f"{given} umask 022; {commands}; {ours}"),
    )


def start_server(release: Release, name: str, *options: str) -> None:
    """Start a server as the hub does: the home and temporary folders alone can be written."""
    hardened = ("--read-only", "--tmpfs=/tmp:exec", "--cap-drop=ALL", "--init")
    command = ("jupyter", "lab", "--ip=0.0.0.0", "--no-browser")
    docker(
        *("run", "-d", "--name", name, *hardened, *options, "--env=JUPYTER_TOKEN=secret"),
        *(release.image, *command),
    )


def probe_server(name: str) -> dict[str, object]:
    """Return what the server answers; {} where its container ended."""
    words = ("docker", "exec", name, "/opt/pytorch/bin/python", "-I", "-c", PROBE)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    answers: dict[str, object] = json.loads(done.stdout or "{}")
    return answers


def read_log(name: str) -> str:
    done = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=True)
    return done.stderr


@pytest.mark.parametrize("kind", at_scale(list(DAMAGE)[:6], list(DAMAGE)))
def test_a_terminal_opens_in_a_damaged_home(
    release: Release, volume: str, name: str, kind: str
) -> None:
    commands, said = DAMAGE[kind]
    damage_home(release, volume, commands)
    start_server(release, name, f"--volume={volume}:/home/researcher")
    answers = probe_server(name)
    if said == "start before":
        assert not answers.get("terminal"), "the damage damages nothing"
        docker("start", name)
        answers = probe_server(name)
    log = read_log(name)
    assert answers.get("terminal") is True, log
    assert said in log
    if kind != "packages shadow the server":
        assert answers["kernel"], log
    notices = docker("exec", name, "bash", "-c", "cat /tmp/workbench-notices 2>/dev/null; true")
    assert said in notices


def test_a_full_home_starts(release: Release, name: str) -> None:
    full = "--tmpfs=/home/researcher:size=4k,uid=1000,gid=1000"
    start_server(release, name, full)
    assert probe_server(name) == {"terminal": True, "kernel": IMAGE_ALONE}, read_log(name)
    assert "No space left on device" in read_log(name)


def test_a_start_after_the_damage_is_mended_ignores_nothing(
    release: Release, volume: str, name: str
) -> None:
    damage_home(release, volume, "mkdir .workbench; touch .workbench/starting")
    start_server(release, name, f"--volume={volume}:/home/researcher")
    assert probe_server(name)["terminal"] is True
    assert "The start before this one failed" in read_log(name)
    docker("restart", name)
    assert probe_server(name)["terminal"] is True
    assert read_log(name).count("The start before this one failed") == 1
    assert docker("exec", name, "bash", "-c", "ls /home/researcher/.workbench") == "packages"


def test_a_start_for_repairs_uses_nothing_of_the_home(
    release: Release, volume: str, name: str
) -> None:
    broken = (
        f"mkdir .jupyter; echo '{EXIT}' >.jupyter/jupyter_server_config.py; echo exit 7 >.bash_profile;"
        " mkdir -p $S .ipython/profile_default/startup; echo '1/0' >$S/ipykernel.py"
    )
    damage_home(release, volume, broken)
    home = f"--volume={volume}:/home/researcher"
    start_server(release, name, home, "--env=WB_REPAIR=1", "--env=WB_PACKAGES=")
    assert probe_server(name) == {"terminal": True, "kernel": IMAGE_ALONE}, read_log(name)
    notices = docker("exec", name, "cat", "/tmp/workbench-notices")
    assert notices.startswith("This start is to repair your home")
    assert len(notices.splitlines()) == 1
