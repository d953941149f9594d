"""Second wall: it is made where it is missing, and replaced where it differs."""

import ipaddress
from collections.abc import Sequence

import pytest

from spawner.guard.second_wall import SecondWall
from spawner.model import Unknown
from spawner.policy.network import UsersNetwork, build_second_wall

NETWORK = UsersNetwork(
    "wb-01234567", ("wbc-01234567", "wba-01234567"), ipaddress.IPv4Network("172.28.0.0/16")
)
WANTED = build_second_wall(NETWORK, [ipaddress.IPv4Address("10.1.1.53")])


class Nft:
    """nftables with one table, or none; ``keeps`` is whether it takes what it is given."""

    def __init__(self, table: str, *, keeps: bool = True) -> None:
        self.table, self.keeps = table, keeps
        self.given: list[str] = []

    def run(self, words: Sequence[str], text: str) -> str:
        if words[1] == "-f":
            self.given.append(text)
            if self.keeps:
                self.table = text.partition("delete table inet wb-01234567\n")[2]
            return ""
        if words[2] == "tables":
            return "table inet filter\n" + ("table inet wb-01234567\n" if self.table else "")
        return self.table


@pytest.mark.parametrize("table", ["", WANTED.replace("drop", "accept")])
def test_the_table_is_made_as_wanted(table: str) -> None:
    nft = Nft(table)
    wall = SecondWall("wb-01234567", nft.run)
    assert wall.ensure(WANTED) is True
    assert nft.table == WANTED
    assert wall.ensure(WANTED) is False
    assert len(nft.given) == 1
    wall.remove()
    assert nft.table == ""


def test_a_table_that_is_not_kept_is_unknown() -> None:
    with pytest.raises(Unknown, match="does not keep the second wall"):
        SecondWall("wb-01234567", Nft("", keeps=False).run).ensure(WANTED)


def test_the_second_wall_is_for_neighbours_and_the_host() -> None:
    assert (
        'iifname "wb-01234567" oifname "wb-01234567" ip saddr != 172.28.0.2-172.28.0.3 '
        "ip daddr != 172.28.0.2-172.28.0.3 drop"
    ) in WANTED
    assert 'iifname "wba-01234567" jump host' in WANTED
    assert "ip daddr 10.1.1.53 udp dport 53 accept" in WANTED
    assert "dport 53" not in build_second_wall(NETWORK, [])
