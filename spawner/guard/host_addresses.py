"""Host addresses: reads the IPv4 addresses of this host, the gateways of Docker's networks among them."""

from __future__ import annotations

import re
from pathlib import Path

_ROUTES = Path("/proc/net/fib_trie")
_LOCAL = re.compile(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL")


def read_host_addresses(file: Path = _ROUTES) -> frozenset[str]:
    """Return the addresses outside loopback."""
    found = _LOCAL.findall(file.read_text())
    return frozenset(address for address in found if not address.startswith("127."))
