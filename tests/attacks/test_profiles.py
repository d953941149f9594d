"""The attacks that a profile allows on purpose: those of the table in docs/security.md succeed, and no other one."""

import re
import secrets

import httpx

from testing.attacker import reached
from testing.paths import ROOT
from testing.stack import PASSWORD, Person, Stack, docker
from tests.attacks.conftest import MACHINE_PORTS, PUBLIC

# asks Docker's resolver for a name of the internet; prints whether a server outside answered
_ASK = """
import socket, struct, sys
name = b"".join(bytes([len(part)]) + part.encode() for part in sys.argv[1].split("."))
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(5)
asking.sendto(struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + name + b"\\0\\0\\1\\0\\1", ("127.0.0.11", 53))
try:
    print(asking.recv(512)[3] & 15 in (0, 3))
except OSError:
    print(False)
"""


def is_answered_outside(container: str) -> bool:
    """Return whether a DNS server outside answers; NXDOMAIN is an answer, a query has reached it."""
    name = f"{secrets.token_hex(8)}.example.com"
    return docker("exec", container, "python3", "-c", _ASK, name) == "True"


def succeeding(stack: Stack, alice: str) -> set[str]:
    """Return the numbers of the attacks that succeed, of those that no browser is needed for."""
    found = set()
    if reached(alice, [(PUBLIC, MACHINE_PORTS[0])]):
        found.add("A1")
    if is_answered_outside(alice):
        found.add("A20")
    bob = Person("bob", PASSWORD, stack.url)
    assert bob.log_in().url.path != "/hub/login"
    if "alice" in bob.client.get("/hub/gpus").text:
        found.add("A6")
    bob.client.follow_redirects = False
    answer = bob.client.get("/user/alice/api")  # of Jupyter, which answers it without a log-in
    if answer.status_code == httpx.codes.OK and "version" in answer.json():
        found.add("A7")
    return found


def allowed(profile: str) -> set[str]:
    """Return the numbers that docs/security.md allows in a profile."""
    page = (ROOT / "docs/security.md").read_text()
    rows = re.findall(
        r"^\| ([AO]\d+) \| .+ \| (allowed|refused) \| (allowed|refused) \|$", page, re.M
    )
    column = {"team": 1, "students": 2}[profile]
    return {row[0] for row in rows if row[column] == "allowed"}


def test_dns_answers_without_walls(mallory: str) -> None:
    assert is_answered_outside(mallory)


def test_a_profile_allows_what_the_documentation_lists(
    stack: Stack, alice: str, profile: str
) -> None:
    shared_origin = {number for number in allowed(profile) if number.startswith("O")}
    assert succeeding(stack, alice) == allowed(profile) - shared_origin


def test_students_are_allowed_nothing_of_the_table() -> None:
    assert allowed("students") == set()
    assert {"A1", "A7", "O8"} <= allowed("team")
