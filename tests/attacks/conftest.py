"""A workbench with two users' servers, and the same without walls: every attack has to succeed there first.

Every attack on a running workbench is tried in both profiles; docs/security.md lists what each one allows.
``alice`` and ``bob`` are names of the containers of two users; ``mallory`` and ``victim`` share a plain network.
"""

import re
import socketserver
import threading
from collections.abc import Iterator

import pytest
from xdist.scheduler import LoadScopeScheduling

from testing.attacker import (
    idle_container,
    is_in_place,
    listen,
    other_machine,
    plain_network,
)
from testing.eventually import eventually_sync
from testing.paths import ROOT
from testing.stack import Stack, docker, run, running_stack
from tests.attacks.flush import GUARD, INSTANCE

COMPOSE = (ROOT / "docker-compose.yml").read_text()
RENDEZVOUS_PORT = 29500  # torchrun's
MACHINE_PORTS = (7001, 7002)
PRIVATE = ("10.213.8.1", "100.64.213.1", "172.16.213.1", "192.168.213.1", "169.254.169.254")
PRIVATE_ALLOWED = "10.213.9.1"
PUBLIC = "198.51.100.213"  # of a block that is reserved for documentation

# in networks of their own, without Docker
PAGE_TESTS = ("test_page_policy.py", "test_shared_origin.py", "test_user_domains.py")


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps the tests on Docker, which share running workbenches, in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.split("::")[0].endswith(PAGE_TESTS) else "docker"


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Share the tests out by ``_Scheduling``."""
    return _Scheduling(config, log)


def image_of(service: str) -> str:
    """Return the image that docker-compose.yml gives a service."""
    match = re.search(rf"^  {service}:\n(?:    .*\n)*?    image: (\S+)", COMPOSE, re.MULTILINE)
    assert match, service
    return match[1]


@pytest.fixture(scope="session")
def machine() -> Iterator[None]:
    """Another machine behind this host, with addresses of every private range and a public one."""
    addresses = (*PRIVATE, PRIVATE_ALLOWED, PUBLIC)
    with other_machine("wbattacks", "10.213.7", MACHINE_PORTS, *addresses):
        yield


@pytest.fixture(scope="session")
def host_port() -> Iterator[int]:
    """A port on which this host listens at all its addresses, as sshd or NFS do."""
    with socketserver.ThreadingTCPServer(("0.0.0.0", 0), socketserver.BaseRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


@pytest.fixture(scope="session", params=["team", "students"])
def profile(request: pytest.FixtureRequest) -> str:
    """The profile of the workbench under attack."""
    return str(request.param)


@pytest.fixture(scope="session")
def stack(machine: None, profile: str) -> Iterator[Stack]:
    """A workbench in a profile; in the default one, one private address and port is allowed."""
    settings, host = {"WORKBENCH_PROFILE": profile}, ""
    if profile == "team":
        settings["WORKBENCH_EGRESS_ALLOW"] = f"{PRIVATE_ALLOWED}:{MACHINE_PORTS[0]}"
    else:
        host = "lab.test"
    with running_stack(INSTANCE, 2, host, **settings) as running:
        for name in ("alice", "bob"):
            assert running.person(name).start(gpus=1).is_success
        yield running


@pytest.fixture(scope="session")
def alice(stack: Stack) -> str:
    """The attacker's server."""
    (name,) = stack.containers("alice")
    return name


@pytest.fixture(scope="session")
def bob(stack: Stack) -> str:
    """The server of another user, in which torchrun's rendezvous listens on all addresses."""
    (name,) = stack.containers("bob")
    listen(name, RENDEZVOUS_PORT)
    return name


@pytest.fixture(scope="session")
def lab_image() -> str:
    """The image of the users' servers."""
    catalog = (ROOT / "images/catalog.toml").read_text()
    match = re.search(r'^image = "(.+)"$', catalog, re.MULTILINE)
    assert match
    return match[1]


@pytest.fixture(scope="session")
def weak_network() -> Iterator[str]:
    # Docker's own pools have the private addresses that the machine has
    with plain_network(f"{INSTANCE}-weak", "--subnet", "10.213.16.0/24") as name:
        yield name


@pytest.fixture(scope="session")
def mallory(weak_network: str, lab_image: str) -> Iterator[str]:
    """The attacker on a network without walls."""
    with idle_container(f"{INSTANCE}-weak-mallory", weak_network, lab_image) as name:
        yield name


@pytest.fixture(scope="session")
def victim(weak_network: str, lab_image: str) -> Iterator[str]:
    """The neighbour on a network without walls; its name is as an older release made it."""
    old_name = f"{INSTANCE}-bob-lab-0123456789abcdef"
    with idle_container(old_name, weak_network, lab_image) as name:
        listen(name, 8888)
        listen(name, RENDEZVOUS_PORT)
        yield name


def gateways() -> list[str]:
    """Return this host's address on every network of Docker."""
    shown = "{{range .IPAM.Config}}{{.Gateway}} {{end}}"
    names = docker("network", "ls", "--quiet", "--filter", "driver=bridge").split()
    return docker("network", "inspect", "--format", shown, *names).split()


@pytest.fixture
def paused_guard(stack: Stack) -> Iterator[None]:
    docker("pause", GUARD)
    yield
    run("/usr/bin/docker", "unpause", GUARD)
    eventually_sync(lambda: is_in_place(GUARD), seconds=15, what="the walls are in place")
