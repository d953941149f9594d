"""Client address: returns the address from which a browser reached the workbench.

``X-Forwarded-For`` counts only as far as it was written by the workbench's own proxy, and by the proxies that an admin
trusts. A header that a client sends itself is ignored: those proxies append the true address behind it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import time
from collections.abc import Sequence
from typing import Any

from tornado.httputil import HTTPServerRequest

PROXY_NAMES = ("proxy", "proxy-api")
"""The proxy's names on its networks; from each of them it reaches the hub with another address."""
MAX_AGE_SECONDS = 30.0
IPV6_HOST_BITS = 64
"""One household or machine has a whole /64, and would else be as many clients as it likes."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ClientAddresses:
    """Finds clients' addresses behind the hosts ``proxy_names`` and the networks ``trusted``."""

    def __init__(self, trusted: Sequence[Network], proxy_names: Sequence[str]) -> None:
        """Resolve no name yet."""
        self._trusted = tuple(trusted)
        self._proxy_names = tuple(proxy_names)
        self._proxies: frozenset[Address] = frozenset()
        self._resolved_at = -MAX_AGE_SECONDS

    async def get(self, request: HTTPServerRequest) -> str:
        """Return the client's address, an IPv6 one as its /64 network."""
        # JupyterHub lets Tornado replace ``remote_ip`` by any header; this is the connection's own peer
        connection: Any = request.connection
        peer = parse_address(connection.context.address[0])
        if peer is None:
            return "unknown"
        if peer in await self._resolve_proxies():
            peer = self._last_untrusted(peer, request.headers.get("X-Forwarded-For", ""))
        return format_client(peer)

    def _last_untrusted(self, peer: Address, forwarded: str) -> Address:
        for text in reversed(forwarded.split(",")):
            address = parse_forwarded(text.strip())
            if address is None:
                return peer
            peer = address
            if not any(peer in network for network in self._trusted):
                return peer
        return peer

    async def _resolve_proxies(self) -> frozenset[Address]:
        if time.monotonic() - self._resolved_at >= MAX_AGE_SECONDS:
            self._resolved_at = time.monotonic()
            found = await asyncio.gather(*map(_resolve, self._proxy_names))
            # a name server that does not answer changes nothing
            self._proxies = frozenset().union(*found) or self._proxies
        return self._proxies


def parse_forwarded(text: str) -> Address | None:
    """Return the address of an ``X-Forwarded-For`` field, to which some proxies append the client's port."""
    match = re.fullmatch(r"\[([^\]]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+", text)
    return parse_address(text if match is None else match[1] or match[2])


def parse_address(text: str) -> Address | None:
    """Return ``text`` as an address, an IPv4 address in IPv6 form as IPv4; None for any other text."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def format_client(address: Address) -> str:
    """Return the key under which attempts from ``address`` are counted."""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, IPV6_HOST_BITS), strict=False))


async def _resolve(name: str) -> set[Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {address for *_, (text, *_) in found if (address := parse_address(str(text)))}
