"""A real broker before the real Docker daemon, for an instance of each test's own; and a whole workbench for load.

``bench`` and ``load`` are the fixtures to use; whatever a test leaves behind is removed by the instance's name.
"""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spawner.containers import Containers, Timeouts
from spawner.ledger import Ledger
from spawner.model import Account, Cause, Lease, LeaseState, Options, Quota, Request
from spawner.policy import names
from spawner.policy.container import LABEL_INSTANCE, build_home_preparation, build_server
from spawner.settings import Settings
from testing.eventually import eventually_sync
from testing.guard_state import reporting_guard
from testing.load import Load
from testing.paths import ROOT
from testing.stack import Stack, docker, run, running_stack

# As small as a single-user image can be: the command of real ones, and a home with a file in it. JUPYTERHUB_DEBUG makes
# it ignore SIGTERM, JUPYTERHUB_DEFAULT_URL is its exit code: names that the broker lets the hub choose.
DOCKERFILE = r"""
FROM debian:bookworm-slim
RUN mkdir /home/researcher && echo hello > /home/researcher/example.txt
RUN printf '%s\n' '#!/bin/sh' \
    'trap "exit 0" TERM' \
    '[ -z "$JUPYTERHUB_DEBUG" ] || trap "" TERM' \
    'echo "up as $(id -u):$(id -g)"' \
    '[ -z "$JUPYTERHUB_DEFAULT_URL" ] || exit "$JUPYTERHUB_DEFAULT_URL"' \
    'while [ ! -e /tmp/hungry ]; do sleep 0.1; done' \
    'exec tail /dev/zero' \
    > /usr/local/bin/jupyterhub-singleuser && chmod +x /usr/local/bin/jupyterhub-singleuser
"""
RELEASE = "v2.7"
SETTINGS = {
    "WORKBENCH_MEMORY_LIMIT": "256M",
    "WORKBENCH_SHM_SIZE": "64M",
    "WORKBENCH_PIDS_LIMIT": "64",
    "WORKBENCH_CPU_LIMIT": "0.5",
}


@dataclass(frozen=True)
class Bench:
    """One instance: its broker's socket, its ledger, and bodies as the hub would post them."""

    settings: Settings
    image: str
    socket_path: Path
    ledger: Ledger

    @property
    def instance(self) -> str:
        return self.settings.instance

    def grant(self, user: str = "alice", *uuids: str) -> Lease:
        """Return a lease as the controller would have it when its turn has come."""
        request = Request(user, "", Options(RELEASE, len(uuids)), user)
        lease = self.ledger.admit(request, lambda *_: None, quota=Quota(), now=1.0)
        assert isinstance(lease, Lease)
        if not uuids:
            return lease
        (granted,) = self.ledger.advance(lambda *_: {lease.id: uuids}, now=1.0)
        return granted

    def begin_closing(self, lease: Lease) -> Lease:
        return self.ledger.move(lease, LeaseState.CLOSING, now=2.0, cause=Cause.USER)

    def close(self, lease: Lease) -> None:
        self.ledger.move(self.begin_closing(lease), LeaseState.CLOSED, now=3.0)

    def name(self, lease: Lease) -> str:
        return names.container_name(self.instance, lease)

    def image_id(self) -> str:
        return docker("image", "inspect", "--format", "{{.Id}}", self.image)

    def server(self, lease: Lease, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        return build_server(
            lease,
            Account(lease.uid, lease.user, is_home_prepared=True),
            instance=self.instance,
            image_id=self.image_id(),
            limits=self.settings.limits,
            environment=environment or {},
        )

    def preparation(self, user: str) -> tuple[str, dict[str, Any]]:
        """Return name and body of the container that prepares the home of ``user``."""
        account = self.ledger.get_or_create_account(user, user)
        body = build_home_preparation(account, instance=self.instance, image_id=self.image_id())
        return names.preparation_name(self.instance, account.uid), body

    async def launch(self, containers: Containers, lease: Lease, **environment: str) -> None:
        """Prepare the home of the lease's user, create their server and start it."""
        await containers.prepare_home(*self.preparation(lease.user))
        await containers.create(self.name(lease), self.server(lease, environment))
        await containers.start(self.name(lease))

    def all_containers(self) -> list[str]:
        label = f"label={LABEL_INSTANCE}={self.instance}"
        return docker("ps", "-a", "--filter", label, "--format", "{{.Names}}").split()

    def inside(self, lease: Lease, *command: str) -> str:
        """Return what a command prints in the lease's container, as its own user."""
        return docker("exec", self.name(lease), *command)


@pytest.fixture(scope="session")
def tiny_image() -> Iterator[str]:
    """Build the smallest image that can serve as a release; return its tag."""
    tag = f"wbtest-{secrets.token_hex(4)}:v1"
    built = run("/usr/bin/docker", "build", "--quiet", "--tag", tag, "-", input=DOCKERFILE)
    assert built.returncode == 0, built.stderr
    yield tag
    docker("image", "rm", "--force", tag)


@pytest.fixture
def bench(tiny_image: str, tmp_path: Path) -> Iterator[Bench]:
    """Bring up network, ledger and broker of a new instance; remove all it made."""
    instance = f"wbtest-{secrets.token_hex(4)}"
    variables = {
        **SETTINGS,
        "WORKBENCH_INSTANCE": instance,
        "WORKBENCH_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.sqlite",
    }
    settings = Settings.from_environ(variables)
    ledger = Ledger.open(settings.ledger_url, first_uid=settings.first_uid)
    socket_path = tmp_path / "broker.sock"
    docker("network", "create", f"{instance}-users")
    broker = _start_broker(tmp_path, variables, tiny_image, socket_path)
    try:
        with reporting_guard(tmp_path / "guard.json"):
            eventually_sync(socket_path.exists, seconds=20, what="the broker listens")
            yield Bench(settings, tiny_image, socket_path, ledger)
    finally:
        ledger.close()
        try:
            broker.terminate()
            broker.wait(timeout=8)  # compose gives it 10
        finally:
            broker.kill()
            _sweep(instance)


@pytest.fixture
async def containers(bench: Bench) -> AsyncIterator[Containers]:
    """The hub's side of the bench's broker."""
    containers = Containers(str(bench.socket_path), bench.instance, Timeouts(remove_seconds=15))
    yield containers
    await containers.close()


@pytest.fixture(scope="session")
def load_stack() -> Iterator[Stack]:
    """A whole workbench with 8 GPUs, for every test of load."""
    with running_stack(
        "wbcrowd", gpus=8, WORKBENCH_MEMORY_LIMIT="1G", WORKBENCH_SHM_SIZE="256M"
    ) as running:
        yield running


@pytest.fixture
def load(load_stack: Stack) -> Iterator[Load]:
    """Start without users; stop the servers that are left afterwards."""
    load = Load(load_stack)
    yield load
    load.stop_all({lease.user for lease in load.live_leases()})


def _start_broker(
    folder: Path, variables: dict[str, str], image: str, socket_path: Path
) -> subprocess.Popen[bytes]:
    catalog = folder / "catalog.toml"
    product = (ROOT / "images/catalog.toml").read_text()
    catalog.write_text(
        re.sub(r'^image = ".*"$', f'image = "{image}"', product, count=1, flags=re.M)
    )
    flags = {
        "--listen": socket_path,
        "--catalog": catalog,
        "--group": os.getgid(),
        "--guard-state": folder / "guard.json",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "spawner.broker", *(str(w) for pair in flags.items() for w in pair)],
        cwd=ROOT,
        env={**os.environ, **variables},
    )


def _sweep(instance: str) -> None:
    label = f"label={LABEL_INSTANCE}={instance}"
    for container in docker("ps", "-aq", "--filter", label).split():
        docker("rm", "--force", container)
    for volume in docker("volume", "ls", "-q", "--filter", f"name=^{instance}-").split():
        docker("volume", "rm", volume)
    docker("network", "rm", f"{instance}-users")
