"""Attack: take the proxy's address, or send packets with a forged one."""

import json

from testing.attacker import idle_container
from testing.stack import docker

_FORGE = """
import fcntl, json, socket, struct
done = []
for kind, protocol in ((socket.AF_PACKET, 0), (socket.AF_INET, socket.IPPROTO_RAW)):
    try:
        socket.socket(kind, socket.SOCK_RAW, protocol)
        done.append(kind.name)
    except OSError:
        pass
try:
    address = struct.pack("16sH2x4s8x", b"eth0", socket.AF_INET, socket.inet_aton("10.213.10.1"))
    fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8916, address)
    done.append("address")
except OSError:
    pass
print(json.dumps(done))
"""


def forge(container: str) -> list[str]:
    made: list[str] = json.loads(docker("exec", container, "python3", "-c", _FORGE))
    return made


def test_addresses_are_forged_with_the_capabilities_for_it(
    weak_network: str, lab_image: str
) -> None:
    rights = ("--cap-add", "NET_RAW", "--cap-add", "NET_ADMIN", "--user", "0:0")
    with idle_container("wbattacks-weak-root", weak_network, lab_image, *rights) as root:
        assert forge(root) == ["AF_PACKET", "AF_INET", "address"]


def test_no_address_is_forged(alice: str) -> None:
    assert forge(alice) == []
