"""Attack: ask Docker's DNS who the neighbours are, by their addresses and by guessed names."""

import ipaddress
import json

from testing.attacker import address_of
from testing.stack import docker
from tests.attacks.flush import INSTANCE

_REVERSE = """
import json, socket, sys
names = {}
for address in sys.argv[1:]:
    try:
        name, aliases, _ = socket.gethostbyaddr(address)
        names[address] = [name, *aliases]
    except OSError:
        pass
print(json.dumps(names))
"""
_FORWARD = """
import json, socket, sys
found = []
for name in sys.argv[1:]:
    try:
        socket.getaddrinfo(name, 80)
    except OSError:
        continue
    found.append(name)
print(json.dumps(found))
"""


def reverse(container: str, network: str, target: str) -> list[str]:
    """Return all that DNS says of the addresses around the target's."""
    address = ipaddress.IPv4Address(address_of(target, network))
    around = [str(address + offset) for offset in range(-3, 4)]
    said = docker("exec", container, "python3", "-c", _REVERSE, *around)
    return [name for names in json.loads(said).values() for name in names]


def test_names_tell_the_user_where_they_are_readable(
    mallory: str, victim: str, weak_network: str
) -> None:
    assert any("bob" in name for name in reverse(mallory, weak_network, victim))


def test_names_tell_no_user_server_or_lease(alice: str, bob: str) -> None:
    lease = docker("inspect", "--format", '{{index .Config.Labels "workbench.lease"}}', bob)
    names = reverse(alice, f"{INSTANCE}-users", bob)
    assert names, "the neighbour's address has no name at all: the attack did not run"
    assert not [name for name in names if "bob" in name or "lab" in name or lease in name]


def test_guessed_names_lead_nowhere(alice: str, bob: str) -> None:
    lease = docker("inspect", "--format", '{{index .Config.Labels "workbench.lease"}}', bob)
    guesses = ["bob", "lab", lease, f"{INSTANCE}-bob-lab-{lease}", f"{INSTANCE}-bob", "jupyter-bob"]
    assert json.loads(docker("exec", alice, "python3", "-c", _FORWARD, *guesses)) == []
    assert json.loads(docker("exec", alice, "python3", "-c", _FORWARD, "hub")) == ["hub"]
