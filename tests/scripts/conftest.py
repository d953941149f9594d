"""A bare Debian machine for the scripts: a container with nothing but Debian's minimal base.

Docker and the driver are stubs on PATH that a test writes; everything else is Debian's own. ``docker diff`` lists the
files that a script left behind.
"""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from testing.paths import ROOT
from testing.stack import docker, run

BASE = "debian:bookworm-slim"
PARTS = (
    "scripts", "spawner", "images", "extensions/gpu-panel", "simulation",
    "docs", "config", "jupyterhub_config.py", "pyproject.toml", "docker-compose.yml", ".env.example", ".dockerignore",
)  # fmt: skip
HARMLESS = ("/repository", "/stubs", "/root", "/tmp")


@dataclass(frozen=True)
class Outcome:
    """The output of one run, its exit code, and the paths that it left changed."""

    code: int
    stdout: str
    stderr: str
    changed: frozenset[str]

    @property
    def error(self) -> str:
        """The last line of stderr: the sentence for the person."""
        return self.stderr.strip().splitlines()[-1] if self.stderr.strip() else ""


@dataclass
class BareMachine:
    """Runs scripts of this repository in a fresh container each time."""

    folder: Path
    network: str = "none"
    stubs: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def stub(self, name: str, body: str) -> None:
        """Put a bash script of this name first on PATH."""
        self.stubs[name] = f"#!/bin/bash\n{body}\n"

    def run(self, command: str, user: str = "root") -> Outcome:
        """Run a shell command in the machine's copy of the repository."""
        name = f"bare-{uuid.uuid4().hex[:12]}"
        self._lay_out()
        options = [f"--env={key}={value}" for key, value in self.environment.items()]
        docker(
            "create", "--name", name, "--network", self.network, "--user", user, *options,
            "--env=PATH=/stubs:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            f"--volume={self.folder}/repository:/repository", f"--volume={self.folder}/stubs:/stubs",
            "--workdir=/repository", BASE, "bash", "-c", command,
        )  # fmt: skip
        try:
            for path, text in self.files.items():
                self._put(name, path, text)
            before = self._changes(name) if self.files else set()
            done = run("/usr/bin/docker", "start", "--attach", name, timeout=300)
            changed = self._changes(name) - before
        finally:
            docker("rm", "--force", name)
        return Outcome(done.returncode, done.stdout, done.stderr, frozenset(changed))

    def _lay_out(self) -> None:
        repository = self.folder / "repository"
        if not repository.exists():
            skip = shutil.ignore_patterns("node_modules", "__pycache__")
            for part in PARTS:
                source, target = ROOT / part, repository / part
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, target, ignore=skip)
                else:
                    shutil.copy(source, target)
        stubs = self.folder / "stubs"
        stubs.mkdir(exist_ok=True)
        for name, text in self.stubs.items():
            (stubs / name).write_text(text)
            (stubs / name).chmod(0o755)

    def _put(self, container: str, path: str, text: str) -> None:
        tree = self.folder / "files"
        shutil.rmtree(tree, ignore_errors=True)
        source = tree / path.lstrip("/")
        source.parent.mkdir(parents=True)
        source.write_text(text)
        docker("cp", f"{tree}/.", f"{container}:/")

    @staticmethod
    def _changes(container: str) -> set[str]:
        paths = {line[2:] for line in docker("diff", container).splitlines()}
        return {path for path in paths if not path.startswith(HARMLESS)}


@pytest.fixture
def machine(tmp_path: Path) -> BareMachine:
    """Return a bare machine without network."""
    return BareMachine(tmp_path)


DOCKER_STUB = """
case "$*" in
  "compose version --short") echo "${COMPOSE_VERSION-2.26.1}" ;;
  "buildx version") echo buildx ;;
  *Components*) printf 'runc %s\n' "${RUNC_VERSION-1.3.3}" ;;
  "version --format"*)
    [ ! -e /var/run/docker.pid ] || kill -0 "$(cat /var/run/docker.pid)" 2>/dev/null || exit 1
    [ -e /tmp/dockerd.up ] || [ -z "${NEEDS_DOCKERD-}" ] || exit 1
    echo "${ENGINE_VERSION-26.1.5}"
    ;;
  "info --format {{.DockerRootDir}}") echo /var/lib ;;
  "info --format"*) [ -n "${CDI_OFF-}" ] && [ ! -e /tmp/dockerd.restarted ] || echo /etc/cdi ;;
  "ps --quiet") echo "${RUNNING-}" ;;
  ps*) ;;
  *) echo "stub docker: $*" >>/tmp/docker.log ;;
esac
"""


@pytest.fixture
def docker_machine(machine: BareMachine) -> BareMachine:
    """Return a machine on which a stub answers as Docker Engine would."""
    machine.stub("docker", DOCKER_STUB)
    machine.stub("dockerd", "touch /tmp/dockerd.up; echo $$ >/var/run/docker.pid; exec sleep 60")
    return machine
