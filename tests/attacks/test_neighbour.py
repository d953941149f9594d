"""Attack: connect to another user's server, on Jupyter's port, on torchrun's, and on one that is closed."""

from testing.attacker import address_of, reached
from tests.attacks.conftest import RENDEZVOUS_PORT
from tests.attacks.flush import INSTANCE

PORTS = (8888, RENDEZVOUS_PORT, 40404)


def test_a_neighbour_is_reached_without_walls(mallory: str, victim: str, weak_network: str) -> None:
    targets = [(address_of(victim, weak_network), port) for port in PORTS]
    assert reached(mallory, targets) == set(targets)


def test_a_neighbour_is_not_reached(alice: str, bob: str) -> None:
    hosts = (address_of(bob, f"{INSTANCE}-users"), bob)
    targets = [(host, port) for host in hosts for port in PORTS]
    assert reached(alice, targets) == set()


def test_hub_and_proxy_reach_both(alice: str, bob: str) -> None:
    hub = f"{INSTANCE}-hub-1"
    assert reached(hub, [(alice, 8888), (bob, 8888)]) == {(alice, 8888), (bob, 8888)}
