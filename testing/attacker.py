"""Attacks over the network from inside a container, and a piece of internet on this machine to aim at.

An outcome is what the attacker sees: ``open``, ``refused``, ``rejected``, ``silent`` or ``unresolved``.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from spawner.network_probe import REACHED, Outcome
from spawner.policy.network import UsersNetwork, instance_network, parse_subnet
from testing.eventually import eventually_sync
from testing.stack import docker, run

# connects to each target at once; what it prints is a list of outcomes
_CONNECT = """
import asyncio, json, socket, sys
async def connect(host, port):
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError: return "silent"
    except socket.gaierror: return "unresolved"
    except ConnectionRefusedError: return "refused"
    except OSError: return "rejected"
    writer.close()
    return "open"
async def main(targets):
    print(json.dumps(await asyncio.gather(*(connect(*target) for target in targets))))
asyncio.run(main(json.loads(sys.argv[1])))
"""
_LISTEN = """
import socketserver, sys
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server(("0.0.0.0", int(sys.argv[1])), socketserver.BaseRequestHandler).serve_forever()
"""


def attack(container: str, targets: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Outcome]:
    """Return what a container meets at each address and port."""
    said = docker("exec", container, "python3", "-c", _CONNECT, json.dumps(targets))
    return dict(zip(targets, (Outcome(word) for word in json.loads(said)), strict=True))


def reached(container: str, targets: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
    """Return the targets that answered, be it with a refusal."""
    return {target for target, outcome in attack(container, targets).items() if outcome in REACHED}


def listen(container: str, port: int) -> None:
    """Have a container listen on a port of all its addresses."""
    docker("exec", "--detach", container, "python3", "-c", _LISTEN, str(port))
    eventually_sync(
        lambda: attack(container, [("127.0.0.1", port)])[("127.0.0.1", port)] is Outcome.OPEN,
        seconds=10,
        what=f"{container} listens on {port}",
    )


def address_of(container: str, network: str) -> str:
    """Return a container's address on a network."""
    shown = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return docker("inspect", "--format", shown, container)


@contextmanager
def idle_container(name: str, network: str, image: str, *options: str) -> Iterator[str]:
    """Run a container that waits for attacks; remove it afterwards."""
    run("/usr/bin/docker", "rm", "--force", name)
    docker(
        "run", "--detach", "--name", name, "--network", network, "--user", "65534:65534",
        "--cap-drop", "ALL", "--entrypoint", "sleep", *options, image, "infinity",
    )  # fmt: skip
    try:
        yield name
    finally:
        docker("rm", "--force", name)


@contextmanager
def plain_network(name: str, *options: str) -> Iterator[str]:
    """Make a network as Docker makes it, without any wall; remove it afterwards."""
    run("/usr/bin/docker", "network", "rm", name)
    docker("network", "create", *options, name)
    try:
        yield name
    finally:
        docker("network", "rm", name)


@dataclass(frozen=True)
class WalledNetwork:
    """A network and its guard, as docker-compose.yml describes both, without hub and proxy."""

    name: str
    guard: str
    users: UsersNetwork


@contextmanager
def walled_network(instance: str, image: str, **settings: str) -> Iterator[WalledNetwork]:
    """Make a users' network with a running guard; remove both, and the rules."""
    with plain_network(f"{instance}-probe") as probe:
        shown = "{{range .IPAM.Config}}{{.Subnet}}{{end}}"
        subnet = docker("network", "inspect", "--format", shown, probe)
    users = instance_network(instance, parse_subnet(subnet))
    options = [
        "--subnet", subnet, "--gateway", str(users.subnet.network_address + 1),
        "--ip-range", str(list(users.subnet.subnets())[1]),
        "--opt", f"com.docker.network.bridge.name={users.bridge}",
        "--opt", "com.docker.network.bridge.enable_icc=false",
    ]  # fmt: skip
    words = [f"--env={name}={value}" for name, value in settings.items()]
    words += [f"--env=WORKBENCH_INSTANCE={instance}", "--network=host", "--cap-drop=ALL"]
    words += ["--cap-add=NET_ADMIN"]
    module = ["python3", "-m", "spawner.guard"]
    subnet_words = ["--subnet", subnet]
    guard = f"{instance}-guard"
    run("/usr/bin/docker", "rm", "--force", guard)
    with plain_network(f"{instance}-users", *options) as network:
        docker(
            "run", "--detach", "--name", guard, "--tmpfs=/run/guard", *words, image,
            *module, "keep", *subnet_words,
        )  # fmt: skip
        try:
            eventually_sync(lambda: is_in_place(guard), seconds=15, what="the walls are in place")
            yield WalledNetwork(network, guard, users)
        finally:
            docker("rm", "--force", guard)
            docker("run", "--rm", *words, image, *module, "remove", *subnet_words)


def is_in_place(guard: str) -> bool:
    """Return whether a guard reports that the walls are in place."""
    done = run("/usr/bin/docker", "exec", guard, "python3", "-m", "spawner.guard", "check")
    return done.returncode == 0


@contextmanager
def other_machine(name: str, link: str, ports: Sequence[int], *addresses: str) -> Iterator[None]:
    """Make a machine with these addresses behind this host, as a network namespace that listens on the ports.

    ``link`` is an address pair's first three bytes for the way between, such as ``10.213.7``.
    """
    here, there = f"wba-{name}", f"wbb-{name}"
    commands = [
        f"ip netns add {name}",
        f"ip link add {here} type veth peer name {there} netns {name}",
        f"ip address add {link}.1/30 dev {here}",
        f"ip link set {here} up",
        f"ip -n {name} address add {link}.2/30 dev {there}",
        f"ip -n {name} link set {there} up",
        f"ip -n {name} link set lo up",
        f"ip -n {name} route add default via {link}.1",
    ]
    for address in addresses:
        commands += [
            f"ip -n {name} address add {address}/32 dev lo",
            f"ip route add {address}/32 via {link}.2",
        ]
    # an aborted run's pair: the kernel removes it some time after its namespace, unless it is deleted by name
    run("ip", "link", "delete", here)
    run("ip", "netns", "delete", name)
    listeners = []
    try:
        for command in commands:
            done = run(*command.split())
            assert done.returncode == 0, f"{command}: {done.stderr}"
        for port in ports:
            words = ("ip", "netns", "exec", name, "python3", "-c", _LISTEN, str(port))
            listeners.append(subprocess.Popen(words))
        yield
    finally:
        for listener in listeners:
            listener.kill()
            listener.wait()
        run("ip", "netns", "delete", name)
        run("ip", "link", "delete", here)
