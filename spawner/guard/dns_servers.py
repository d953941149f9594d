"""DNS servers: reads the addresses that Docker asks for the containers of this host.

Docker itself asks a server on the host's loopback; every other one is asked from a container's own network.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path

# Docker reads the second where the first names a loopback address only: a stub of systemd-resolved
FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_SERVER = re.compile(r"^\s*nameserver\s+([0-9.]+)\s*$", re.MULTILINE)


def is_replaced(file: Path = FILES[0]) -> bool:
    """Return whether the host has another file in the place of the one that is mounted here."""
    return file.exists() and file.stat().st_nlink == 0


def read_dns_servers(files: Iterable[Path] = FILES) -> frozenset[ipaddress.IPv4Address]:
    """Return the IPv4 servers outside loopback of the first file that has any; none when no file has."""
    for file in files:
        text = file.read_text() if file.exists() else ""
        found = filter(None, map(_parse, _SERVER.findall(text)))
        outside = frozenset(address for address in found if not address.is_loopback)
        if outside:
            return outside
    return frozenset()


def _parse(text: str) -> ipaddress.IPv4Address | None:
    """Return the address; a line that is none is ignored, as the resolver does, and ends no guard."""
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None
