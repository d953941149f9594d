"""Attack: connect to the workbench's own services: the proxy's API, the gpu-agent, and other ports of the hub."""

from testing.attacker import address_of, idle_container, reached
from testing.stack import docker
from tests.attacks.flush import INSTANCE

CONTROL, AGENT = f"{INSTANCE}-control", f"{INSTANCE}-agent"


def service_targets() -> list[tuple[str, int]]:
    proxy, agent = f"{INSTANCE}-proxy-1", f"{INSTANCE}-gpu-agent-1"
    return [
        (address_of(proxy, CONTROL), 8000),
        (address_of(proxy, CONTROL), 8001),
        (address_of(agent, AGENT), 9201),
    ]


def test_services_are_reached_from_their_own_network(alice: str, lab_image: str) -> None:
    with idle_container(f"{INSTANCE}-weak-inside", CONTROL, lab_image) as inside:
        docker("network", "connect", AGENT, inside)
        assert reached(inside, service_targets()) == set(service_targets())


def test_services_are_not_reached(alice: str) -> None:
    users = f"{INSTANCE}-users"
    hub, proxy = address_of(f"{INSTANCE}-hub-1", users), address_of(f"{INSTANCE}-proxy-1", users)
    targets = [*service_targets(), (hub, 8082), (proxy, 8000), (proxy, 8001)]
    targets += [(name, 80) for name in ("gpu-agent", "broker", "proxy-api", "guard")]
    assert reached(alice, targets) == set()
    assert reached(alice, [("hub", 8081)]) == {("hub", 8081)}
