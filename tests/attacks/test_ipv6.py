"""Attack: connect over IPv6 to the host's link-local address on the users' network, where every rule is an IPv4 one."""

import re

from testing.attacker import idle_container
from testing.stack import docker, run
from tests.attacks.flush import INSTANCE, network

# the outcome of one connection through the container's only interface, once its own address is no longer tentative
_CONNECT = """
import socket, sys, time
while "c0     eth0" in open("/proc/net/if_inet6").read():
    time.sleep(0.1)
asking = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
asking.settimeout(3)
try:
    asking.connect((sys.argv[1], int(sys.argv[2]), 0, socket.if_nametoindex("eth0")))
    print("open")
except ConnectionRefusedError:
    print("refused")
except OSError:
    print("rejected")
"""


def outcome(container: str, bridge: str, port: int) -> str:
    shown = run("ip", "-6", "-o", "address", "show", "dev", bridge, "scope", "link").stdout
    (address,) = re.findall(r"inet6 ([0-9a-f:]+)/", shown)
    return docker("exec", container, "python3", "-c", _CONNECT, address, str(port))


def test_the_host_is_reached_over_ipv6_without_walls(weak_network: str, lab_image: str) -> None:
    bridge = "br-" + docker("network", "inspect", "--format", "{{.Id}}", weak_network)[:12]
    with_ipv6 = ("--sysctl", "net.ipv6.conf.all.disable_ipv6=0")
    with idle_container(f"{INSTANCE}-weak-ipv6", weak_network, lab_image, *with_ipv6) as weak:
        assert outcome(weak, bridge, 40404) == "refused"


def test_the_host_is_not_reached_over_ipv6(alice: str, lab_image: str) -> None:
    """Docker switches IPv6 off in a server; the walls hold where it does not."""
    bridge = network().bridge
    assert outcome(alice, bridge, 40404) == "rejected"
    with_ipv6 = ("--sysctl", "net.ipv6.conf.all.disable_ipv6=0")
    users = f"{INSTANCE}-users"
    with idle_container(f"{INSTANCE}-ipv6", users, lab_image, *with_ipv6) as server:
        assert outcome(server, bridge, 40404) == "rejected"
