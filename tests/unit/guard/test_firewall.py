"""Firewall: what a restore changes in a table that another program changed, and what it leaves."""

from collections.abc import Sequence

import pytest

from spawner.guard.firewall import Firewall, Wanted, build_changes, run_command
from spawner.model import Unknown

FORWARD, INPUT = "WB-01234567-FORWARD", "WB-01234567-INPUT"
JUMP, HOST_JUMP = f"-i wb-01234567 -j {FORWARD}", f"-i wb-01234567 -j {INPUT}"
WANTED = Wanted(
    chains=(FORWARD, INPUT),
    rules=(f"-A {FORWARD} -d 10.0.0.0/8 -j REJECT", f"-A {INPUT} -j REJECT"),
    jumps={"DOCKER-USER": (JUMP,), "INPUT": (HOST_JUMP,)},
)
IN_PLACE = [
    "-P INPUT ACCEPT",
    "-P FORWARD DROP",
    "-N DOCKER-USER",
    f"-N {FORWARD}",
    f"-N {INPUT}",
    f"-A INPUT {HOST_JUMP}",
    "-A INPUT -j ufw-before-input",
    "-A FORWARD -j DOCKER-USER",
    "-A FORWARD -j DOCKER-ISOLATION-STAGE-1",
    f"-A DOCKER-USER {JUMP}",
    "-A DOCKER-USER -j RETURN",
    *WANTED.rules,
]


def without(*removed: str) -> list[str]:
    return [line for line in IN_PLACE if line not in removed]


def test_what_is_in_place_is_left() -> None:
    assert build_changes(IN_PLACE, WANTED) == []


def test_jumps_of_other_workbenches_may_come_first() -> None:
    """Else two guards would overtake each other without end."""
    other = "-A DOCKER-USER -i wb-89abcdef -j WB-89ABCDEF-FORWARD"
    lines = list(IN_PLACE)
    lines.insert(lines.index(f"-A DOCKER-USER {JUMP}"), other)
    assert build_changes(lines, WANTED) == []


@pytest.mark.parametrize(
    "lines",
    [
        without(WANTED.rules[0]),
        without(f"-A DOCKER-USER {JUMP}"),
        without(f"-A INPUT {HOST_JUMP}"),
        without(f"-N {FORWARD}", WANTED.rules[0]),
        [*IN_PLACE, f"-A {INPUT} -j ACCEPT"],
        ["-A INPUT -j ACCEPT", *IN_PLACE],
        ["-A DOCKER-USER -j ACCEPT", *IN_PLACE],
        [*reversed(IN_PLACE)],
        ["-P INPUT ACCEPT", "-P FORWARD ACCEPT"],
    ],
)
def test_what_differs_is_restored_whole(lines: list[str]) -> None:
    changes = build_changes(lines, WANTED)
    assert set(WANTED.rules) <= set(changes)
    assert f"-I DOCKER-USER 1 {JUMP}" in changes
    assert f"-I INPUT 1 {HOST_JUMP}" in changes
    foreign = [line for line in changes if line.startswith("-D") and "WB-01234567" not in line]
    assert all(line == "-D FORWARD -j DOCKER-USER" for line in foreign)


def test_a_missing_chain_of_docker_is_made_before_its_jump() -> None:
    changes = build_changes(without("-N DOCKER-USER", "-A FORWARD -j DOCKER-USER"), WANTED)
    assert changes.index(":DOCKER-USER - [0:0]") < changes.index("-I FORWARD 1 -j DOCKER-USER")
    assert ":DOCKER-USER - [0:0]" not in build_changes(without(f"-N {INPUT}"), WANTED)


class Table:
    """A filter table that answers as iptables does; ``keeps`` is whether it takes what it is given."""

    def __init__(self, lines: list[str], *, keeps: bool = True) -> None:
        self.lines, self.keeps = lines, keeps
        self.given: list[str] = []

    def run(self, words: Sequence[str], text: str) -> str:
        if words[0].endswith("-restore"):
            assert "--noflush" in words
            self.given.append(text)
            if self.keeps:
                self.lines = IN_PLACE
        return "\n".join(self.lines)


def test_a_restore_is_one_transaction() -> None:
    table = Table(without(WANTED.rules[0]))
    firewall = Firewall("iptables-nft", table.run)
    assert firewall.ensure(WANTED) is True
    assert firewall.ensure(WANTED) is False
    (text,) = table.given
    assert text.startswith("*filter\n")
    assert text.endswith("\nCOMMIT\n")


def test_a_table_that_does_not_keep_the_rules_is_unknown() -> None:
    table = Table(without(WANTED.rules[0]), keeps=False)
    with pytest.raises(Unknown, match="does not keep the rules"):
        Firewall("iptables-nft", table.run).ensure(WANTED)


def test_a_removal_takes_what_is_there() -> None:
    table = Table(without(f"-N {INPUT}", f"-A INPUT {HOST_JUMP}", WANTED.rules[1]))
    Firewall("iptables-nft", table.run).remove(WANTED)
    assert table.given == [
        f"*filter\n-D DOCKER-USER {JUMP}\n:{FORWARD} - [0:0]\n-X {FORWARD}\nCOMMIT\n"
    ]
    table = Table(["-P INPUT ACCEPT"])
    Firewall("iptables-nft", table.run).remove(WANTED)
    assert table.given == []


def test_a_command_that_fails_is_unknown() -> None:
    assert run_command(("cat",), "text") == "text"
    with pytest.raises(Unknown, match="exit code 3: no such chain"):
        run_command(("sh", "-c", "echo no such chain. >&2; exit 3"), "")
    with pytest.raises(Unknown, match="cannot be run"):
        run_command(("no-such-command",), "")
