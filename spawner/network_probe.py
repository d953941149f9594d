"""Network probe: tries from a container what a user's server must not reach, and prints the results as JSON.

A connection that is made, or refused by the other side, is a way; a rejection on the way, or silence, is a wall.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

SERVER_PORT = 8888
PEER_PORTS = (SERVER_PORT, 29500)  # of Jupyter and of torchrun
HOST_PORTS = (22, 111, 2049, 9100)  # sshd, portmapper, NFS, node exporter: closed ones answer too
HIDDEN_NAMES = ("gpu-agent", "broker", "proxy-api", "guard")
METADATA = "169.254.169.254"
CONNECT_SECONDS = 2.0
LISTEN_SECONDS = 60.0
_ROUTES = Path("/proc/net/route")


class Outcome(StrEnum):
    """The result of one connection."""

    OPEN = "open"
    REFUSED = "refused"
    REJECTED = "rejected"
    SILENT = "silent"
    UNRESOLVED = "unresolved"


REACHED = frozenset({Outcome.OPEN, Outcome.REFUSED})


@dataclass(frozen=True)
class Attempt:
    """One connection: ``target`` is for people, ``outcome`` is its result."""

    target: str
    host: str
    port: int
    outcome: Outcome


async def connect(target: str, host: str, port: int) -> Attempt:
    """Try one TCP connection; raises nothing."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        outcome = Outcome.SILENT
    except socket.gaierror:
        outcome = Outcome.UNRESOLVED
    except ConnectionRefusedError:
        outcome = Outcome.REFUSED
    except OSError:
        outcome = Outcome.REJECTED
    else:
        writer.close()
        outcome = Outcome.OPEN
    return Attempt(target, host, port, outcome)


async def attack(peer: str, hosts: Sequence[str]) -> list[Attempt]:
    """Try everything that must be walled, and the hub's API, which must not."""
    attempts = [("the hub's API", "hub", 8081), ("another port of the hub", "hub", 8082)]
    attempts += [("the proxy", "proxy", port) for port in (8000, 8001)]
    attempts += [("a neighbour", peer, port) for port in PEER_PORTS]
    attempts += [("the host", host, port) for host in hosts for port in HOST_PORTS]
    attempts += [(f"the service {name}", name, 80) for name in HIDDEN_NAMES]
    attempts += [("the metadata service", METADATA, 80)]
    return await asyncio.gather(*(connect(*attempt) for attempt in attempts))


async def listen() -> None:
    """Accept connections on the peer's ports for a minute."""
    servers = [
        await asyncio.start_server(lambda _, writer: writer.close(), "0.0.0.0", port)  # noqa: S104
        for port in PEER_PORTS
    ]
    await asyncio.sleep(LISTEN_SECONDS)
    for server in servers:
        server.close()


def read_gateway(routes: str) -> str:
    """Return the address of the default route in the text of ``/proc/net/route``; raises ValueError."""
    match = re.search(r"^\S+\t00000000\t([0-9A-F]{8})\t", routes, re.MULTILINE)
    if match is None:
        raise ValueError("the container has no default route")
    return socket.inet_ntoa(int(match[1], 16).to_bytes(4, "little"))


def main(words: Sequence[str] | None = None) -> int:
    """Run one of both; return the exit code."""
    parser = argparse.ArgumentParser("python -m spawner.network_probe", description=__doc__)
    parser.add_argument("command", choices=("listen", "attack"))
    parser.add_argument("peer", nargs="?", default="")
    parser.add_argument("hosts", nargs="*", help="the host's addresses")
    flags = parser.parse_args(words)
    if flags.command == "listen":
        asyncio.run(listen())
    else:
        gateway = read_gateway(_ROUTES.read_text())
        attempts = asyncio.run(attack(flags.peer, sorted({gateway, *flags.hosts})))
        sys.stdout.write(json.dumps([asdict(attempt) for attempt in attempts]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
