"""Client address: headers count as far as trusted proxies wrote them."""

from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from spawner.hub.client_address import ClientAddresses

PROXY, STRANGER = "127.0.0.1", "203.0.113.9"


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        (STRANGER, "", STRANGER),
        (STRANGER, "10.1.1.1", STRANGER),
        (PROXY, "", PROXY),
        (PROXY, "198.51.100.1", "198.51.100.1"),
        (PROXY, "10.1.1.1, 198.51.100.1", "198.51.100.1"),
        (PROXY, "198.51.100.1:49152", "198.51.100.1"),
        (PROXY, "198.51.100.1, 192.168.7.3:443", "198.51.100.1"),
        (PROXY, "[2001:db8:1:2:3:4:5:6]:443", "2001:db8:1:2::/64"),
        (PROXY, "[2001:db8:1:2:3:4:5:6]", "2001:db8:1:2::/64"),
        (PROXY, "198.51.100.1:x", PROXY),
        (PROXY, "10.1.1.1,198.51.100.1, 192.168.7.3", "198.51.100.1"),
        (PROXY, "192.168.7.3", "192.168.7.3"),
        (PROXY, "nonsense", PROXY),
        (PROXY, "198.51.100.1, nonsense, 192.168.7.3", "192.168.7.3"),
        (PROXY, "::ffff:198.51.100.1", "198.51.100.1"),
        (PROXY, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "", "fe80::/64"),
        ("", "198.51.100.1", "unknown"),
    ],
)
async def test_the_last_address_that_no_trusted_proxy_has(
    peer: str, forwarded: str, client: str
) -> None:
    addresses = ClientAddresses([ip_network("192.168.7.0/24")], [PROXY, "no-such-host.invalid"])
    connection = SimpleNamespace(context=SimpleNamespace(address=(peer, 1)))
    request: Any = SimpleNamespace(connection=connection, headers={"X-Forwarded-For": forwarded})
    assert await addresses.get(request) == client
