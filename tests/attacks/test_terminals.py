"""Attack: take the pseudo terminals of the whole host, of which Linux has 4,096."""

from spawner.policy.container import MAX_TERMINALS
from testing.stack import docker

WANTED = MAX_TERMINALS + 50
_OPEN = f"""
import os
opened = []
try:
    while len(opened) < {WANTED}:
        opened.append(os.openpty())
except OSError:
    pass
print(len(opened))
"""


def open_terminals(container: str) -> int:
    return int(docker("exec", container, "python3", "-c", _OPEN))


def test_terminals_have_no_bound_of_their_own(mallory: str) -> None:
    assert open_terminals(mallory) == WANTED


def test_a_server_takes_no_more_than_its_own(alice: str) -> None:
    assert 1 <= open_terminals(alice) <= MAX_TERMINALS
