"""Attack: connect to the host at each of its addresses: its gateways on Docker's networks and its own."""

from testing.attacker import reached
from testing.stack import run
from tests.attacks.conftest import gateways


def addresses() -> list[str]:
    own = run("ip", "-4", "-o", "address", "show", "scope", "global").stdout
    return sorted({*gateways(), *(line.split()[3].split("/")[0] for line in own.splitlines())})


def test_the_host_is_reached_without_walls(mallory: str, alice: str, host_port: int) -> None:
    targets = [(address, host_port) for address in addresses()]
    assert reached(mallory, targets) == set(targets)


def test_the_host_is_not_reached(alice: str, mallory: str, host_port: int) -> None:
    targets = [(address, port) for address in addresses() for port in (host_port, 40404)]
    assert reached(alice, targets) == set()
