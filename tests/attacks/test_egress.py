"""Attack: send data out, past each of the values of WORKBENCH_EGRESS."""

import pytest

from testing.attacker import idle_container, reached, walled_network
from tests.attacks.conftest import (
    MACHINE_PORTS,
    PRIVATE,
    PRIVATE_ALLOWED,
    PUBLIC,
    image_of,
)

FIRST, SECOND = MACHINE_PORTS
TARGETS = [
    (address, port) for address in (PUBLIC, PRIVATE_ALLOWED, PRIVATE[0]) for port in MACHINE_PORTS
]


def test_everything_is_reached_without_walls(machine: None, mallory: str) -> None:
    assert reached(mallory, TARGETS) == set(TARGETS)


@pytest.mark.parametrize(
    ("egress", "allowed", "ways"),
    [
        ("open", "", {(PUBLIC, FIRST), (PUBLIC, SECOND)}),
        ("none", "", set()),
        ("none", f"{PRIVATE_ALLOWED}:{SECOND}", {(PRIVATE_ALLOWED, SECOND)}),
        (f"{PUBLIC}:{FIRST}", "", {(PUBLIC, FIRST)}),
        ("198.51.100.0/24", PRIVATE_ALLOWED, {*TARGETS[:4]}),
    ],
)
def test_egress_goes_where_the_settings_let_it(
    machine: None, lab_image: str, egress: str, allowed: str, ways: set[tuple[str, int]]
) -> None:
    settings = {"WORKBENCH_EGRESS": egress, "WORKBENCH_EGRESS_ALLOW": allowed}
    with (
        walled_network("wbegress", image_of("guard"), **settings) as walled,
        idle_container("wbegress-server", walled.name, lab_image) as server,
    ):
        assert reached(server, TARGETS) == ways
