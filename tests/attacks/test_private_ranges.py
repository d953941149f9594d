"""Attack: connect to machines of the lab: private ranges, shared ones, and the metadata service of a cloud."""

from testing.attacker import reached
from tests.attacks.conftest import MACHINE_PORTS, PRIVATE, PRIVATE_ALLOWED, PUBLIC

TARGETS = [(address, port) for address in (*PRIVATE, PRIVATE_ALLOWED) for port in MACHINE_PORTS]


def test_private_ranges_are_reached_without_walls(machine: None, mallory: str) -> None:
    assert reached(mallory, TARGETS) == set(TARGETS)


def test_private_ranges_are_not_reached_but_for_what_is_allowed(alice: str, profile: str) -> None:
    allowed = {(PRIVATE_ALLOWED, MACHINE_PORTS[0])} if profile == "team" else set()
    assert reached(alice, TARGETS) == allowed


def test_the_hub_reaches_none_of_them(alice: str) -> None:
    assert reached("wbattacks-hub-1", [*TARGETS, (PUBLIC, MACHINE_PORTS[0])]) == set()
    assert reached("wbattacks-gpu-agent-1", [*TARGETS, (PUBLIC, MACHINE_PORTS[0])]) == set()
