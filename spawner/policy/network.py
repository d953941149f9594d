"""Network policy: builds the firewall rules of one workbench from its settings and addresses.

A server reaches the hub's API and, where the settings allow it, the internet: no neighbour, no host, no private range.

How the rules work. Docker asks the chain ``DOCKER-USER`` before its own rules, and the kernel asks ``INPUT`` for
every packet to the host itself. Each of both gets one jump to a chain of this workbench, for packets that come in
through the bridge of its servers:

* Neighbours: the network has ``enable_icc=false``, so Docker drops each packet from one container to another. The
  chain accepts the few that are needed (proxy and hub to a server's port, a server to the hub's API) and rejects the
  rest. Without the chain Docker's own rule still holds, so a flush closes the way instead of opening it.
* Host: Docker has no rule against it. The chain rejects everything to any address of the host.
* Private ranges: the chain rejects them, except the DNS servers and what the admin allows by name.
* Internet: the chain returns, so Docker's rules and the admin's own in ``DOCKER-USER`` decide.

Proxy and hub have fixed addresses outside the range from which Docker serves the others. Their addresses
identify them; a container without NET_ADMIN and NET_RAW cannot take it.

A second wall lies behind the first, in an nftables table of the workbench's own: packets between neighbours and to
the host are dropped there. ``iptables -F`` and Docker do not touch that table; it lets more pass than the chains do.

A rejection is an ICMP message and no TCP reset: a probe can distinguish a wall from a closed port of a host.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from spawner.policy.container import PORT

HUB_PORT = 8081
OPEN, NONE = "open", "none"
USER_CHAIN, INPUT_CHAIN = "DOCKER-USER", "INPUT"
# RFC 6890: private, shared, link-local, loopback, benchmarking, multicast and reserved addresses
PRIVATE_RANGES = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
_MIN_ADDRESSES = 16
_REJECT_V4 = "-j REJECT --reject-with icmp-admin-prohibited"
_REJECT_V6 = "-j REJECT --reject-with icmp6-adm-prohibited"
_REPLIES = "-m conntrack --ctstate RELATED,ESTABLISHED"
_MAX_PORT = 65535


@dataclass(frozen=True)
class Destination:
    """An IPv4 network, and one of its ports or, with None, all of them."""

    network: ipaddress.IPv4Network
    port: int | None = None

    def __str__(self) -> str:
        return str(self.network) if self.port is None else f"{self.network}:{self.port}"


@dataclass(frozen=True)
class Egress:
    """Where servers may connect to outside the workbench.

    ``is_open``: to all public addresses; ``allowed``: to these as well, private ones included; ``has_dns``: the
    host's DNS servers may be asked.
    """

    is_open: bool
    allowed: tuple[Destination, ...]
    has_dns: bool


@dataclass(frozen=True)
class UsersNetwork:
    """The network of the users' servers: its bridge and addresses, and the internal networks' bridges."""

    bridge: str
    internal_bridges: tuple[str, ...]
    subnet: ipaddress.IPv4Network

    @property
    def proxy(self) -> ipaddress.IPv4Address:
        """The proxy's fixed address."""
        return self.subnet.network_address + 2

    @property
    def hub(self) -> ipaddress.IPv4Address:
        """The hub's fixed address."""
        return self.subnet.network_address + 3

    @property
    def chains(self) -> tuple[str, str]:
        """Names of the chains for forwarded packets and for packets to the host."""
        name = self.bridge.upper()
        return f"{name}-FORWARD", f"{name}-INPUT"

    @property
    def jumps(self) -> dict[str, tuple[str, ...]]:
        """The jumps of each of the firewall's own chains, as ``iptables -S`` prints them."""
        forward, host = self.chains
        return {
            USER_CHAIN: (f"-i {self.bridge} -j {forward}",),
            INPUT_CHAIN: tuple(
                f"-i {bridge} -j {host}" for bridge in (self.bridge, *self.internal_bridges)
            ),
        }


def instance_network(instance: str, subnet: ipaddress.IPv4Network) -> UsersNetwork:
    """Return the network of an instance, with the bridges that scripts/lib/stack.sh gives to Docker."""
    name = network_id(instance)
    return UsersNetwork(f"wb-{name}", (f"wbc-{name}", f"wba-{name}"), subnet)


def network_id(instance: str) -> str:
    """Return what the instance's bridges and chains have in their names: short, as names of interfaces have to be."""
    return hashlib.sha256(instance.encode()).hexdigest()[:8]


def parse_subnet(text: str) -> ipaddress.IPv4Network:
    """Return the subnet of the users' network; raises ValueError."""
    try:
        subnet = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ValueError("an IPv4 subnet such as 172.28.0.0/16") from error
    if subnet.num_addresses < _MIN_ADDRESSES:
        raise ValueError(f"an IPv4 subnet of at least {_MIN_ADDRESSES} addresses")
    return subnet


def parse_destinations(text: str) -> tuple[Destination, ...]:
    """Return the destinations of ``ADDRESS[/BITS][:PORT],…``; raises ValueError."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    return tuple(_parse_destination(word) for word in words)


def parse_egress(text: str) -> str:
    """Return ``open``, ``none`` or a list of destinations in its normal form; raises ValueError."""
    if text in (OPEN, NONE):
        return text
    destinations = parse_destinations(text)
    if not destinations:
        raise ValueError("open, none, or a list such as 203.0.113.0/24,198.51.100.7:443")
    return ",".join(str(destination) for destination in destinations)


def build_egress(egress: str, allowed: Sequence[Destination]) -> Egress:
    """Return the egress of both settings; ``none`` closes DNS too, unless something is allowed."""
    listed = () if egress in (OPEN, NONE) else parse_destinations(egress)
    everything = (*listed, *allowed)
    return Egress(
        is_open=egress == OPEN,
        allowed=everything,
        has_dns=egress == OPEN or bool(everything),
    )


def build_rules(
    network: UsersNetwork,
    egress: Egress,
    *,
    dns_servers: Iterable[ipaddress.IPv4Address],
    hub_has_egress: bool,
) -> tuple[str, ...]:
    """Return the IPv4 rules of both chains, in their order, as ``iptables -S`` prints them."""
    asked = sorted(dns_servers) if egress.has_dns or hub_has_egress else []
    forward, host = network.chains
    return (
        *(f"-A {forward} {rule}" for rule in _forward(network, egress, asked, hub_has_egress)),
        *(f"-A {host} {rule}" for rule in _input(network, egress, asked, hub_has_egress)),
    )


def build_rules_v6(network: UsersNetwork) -> tuple[str, ...]:
    """Return the IPv6 rules: the network has no IPv6, so every packet is rejected."""
    return tuple(f"-A {chain} {_REJECT_V6}" for chain in network.chains)


def build_second_wall(network: UsersNetwork, dns_servers: Iterable[ipaddress.IPv4Address]) -> str:
    """Return the nftables table against neighbours and for the host, as ``nft list table`` prints it."""
    bridge, services = network.bridge, f"{network.proxy}-{network.hub}"
    between = f"ip saddr != {services} ip daddr != {services}"
    asked = [
        f"\t\tip daddr {server} {protocol} dport 53 accept"
        for server in sorted(dns_servers)
        for protocol in ("udp", "tcp")
    ]
    lines = (
        f"table inet {bridge} {{",
        "\tchain forward {",
        "\t\ttype filter hook forward priority filter + 5; policy accept;",
        f'\t\tiifname "{bridge}" meta nfproto ipv6 drop',
        f'\t\tiifname "{bridge}" oifname "{bridge}" {between} drop',
        "\t}",
        "",
        "\tchain input {",
        "\t\ttype filter hook input priority filter + 5; policy accept;",
        f'\t\tiifname "{bridge}" jump host',
        *(f'\t\tiifname "{name}" jump host' for name in network.internal_bridges),
        "\t}",
        "",
        "\tchain host {",
        "\t\tct state established,related accept",
        *asked,
        "\t\tdrop",
        "\t}",
        "}",
        "",
    )
    return "\n".join(lines)


def _forward(
    network: UsersNetwork,
    egress: Egress,
    dns_servers: Sequence[ipaddress.IPv4Address],
    hub_has_egress: bool,
) -> Iterator[str]:
    inside, outside = f"-o {network.bridge}", f"! -o {network.bridge}"
    proxy, hub = f"-s {network.proxy}/32", f"-s {network.hub}/32"
    to_hub = f"-d {network.hub}/32 {inside} -p tcp -m tcp --dport {HUB_PORT} -j ACCEPT"
    to_server = f"{inside} -p tcp -m tcp --dport {PORT} -j ACCEPT"
    yield f"{inside} {_REPLIES} -j ACCEPT"
    yield f"{outside} {_REPLIES} -j RETURN"
    yield to_hub
    yield f"{proxy} {to_server}"
    yield f"{proxy} {_REJECT_V4}"
    yield f"{hub} {to_server}"
    yield f"{inside} {_REJECT_V4}"
    if hub_has_egress:
        yield f"{hub} -j RETURN"
    yield f"{hub} {_REJECT_V4}"
    if egress.has_dns:
        yield from (f"{rule} -j RETURN" for rule in _dns(dns_servers))
    for destination in egress.allowed:
        yield from (f"{match} -j RETURN".strip() for match in _matches(destination))
    yield from (f"-d {private} {_REJECT_V4}" for private in PRIVATE_RANGES)
    yield "-j RETURN" if egress.is_open else _REJECT_V4


def _input(
    network: UsersNetwork,
    egress: Egress,
    dns_servers: Sequence[ipaddress.IPv4Address],
    hub_has_egress: bool,
) -> Iterator[str]:
    """A DNS server may be an address of the host itself."""
    yield f"{_REPLIES} -j RETURN"
    source = "" if egress.has_dns else f"-s {network.hub}/32 "
    if egress.has_dns or hub_has_egress:
        yield from (f"{source}{rule} -j RETURN" for rule in _dns(dns_servers))
    yield _REJECT_V4


def _dns(servers: Iterable[ipaddress.IPv4Address]) -> Iterator[str]:
    for server in servers:
        for protocol in ("udp", "tcp"):
            yield f"-d {server}/32 -p {protocol} -m {protocol} --dport 53"


def _matches(destination: Destination) -> Iterator[str]:
    # iptables prints no network that matches everything
    address = f"-d {destination.network} " if destination.network.prefixlen else ""
    if destination.port is None:
        yield address.strip()
        return
    for protocol in ("tcp", "udp"):
        yield f"{address}-p {protocol} -m {protocol} --dport {destination.port}"


def _parse_destination(word: str) -> Destination:
    address, _, port = word.partition(":")
    is_port = re.fullmatch(r"[0-9]{1,5}", port) is not None and 1 <= int(port) <= _MAX_PORT
    try:
        network = ipaddress.IPv4Network(address)
    except ValueError:
        network = None
    if network is None or (":" in word and not is_port):
        raise ValueError(
            f"IPv4 addresses or networks, each with a port or without (198.51.100.7:443), and {word!r} is none"
        )
    return Destination(network, int(port) if port else None)
