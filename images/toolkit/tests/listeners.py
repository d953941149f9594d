"""Listening sockets of this network namespace, from ``/proc/net``."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

LISTEN = "0A"
LOOPBACK = {"127.0.0.1", "::1"}


def read_address(text: str) -> IPv4Address | IPv6Address:
    """Return the address in the format of ``/proc/net/tcp``: words of 32 bits in the host's byte order."""
    words = re.findall("[0-9A-F]{8}", text.partition(":")[0])
    return ip_address(b"".join(bytes.fromhex(word)[::-1] for word in words))


def read_listeners() -> dict[str, IPv4Address | IPv6Address]:
    """Return the address of every listening TCP socket of this network namespace, by inode."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path("/proc/net", name).read_text().splitlines()[1:]
    ]
    return {line[9]: read_address(line[1]) for line in lines if line[3] == LISTEN}


def sockets_of(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process has open."""
    links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def addresses_of(pid: int) -> set[str]:
    """Return the addresses on which a process listens."""
    listeners = read_listeners()
    return {str(listeners[inode]) for inode in sockets_of(pid) & listeners.keys()}
