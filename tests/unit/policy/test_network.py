"""Network policy: what the rules of both chains are, and which words of an admin become them."""

import ipaddress

import pytest

from spawner.policy.network import (
    PRIVATE_RANGES,
    Egress,
    UsersNetwork,
    build_egress,
    build_rules,
    build_rules_v6,
    network_id,
    parse_destinations,
    parse_egress,
    parse_subnet,
)

NETWORK = UsersNetwork(
    "wb-01234567", ("wbc-01234567", "wba-01234567"), ipaddress.IPv4Network("172.28.0.0/16")
)
DNS = ipaddress.IPv4Address("10.1.1.53")
FORWARD, INPUT = "WB-01234567-FORWARD", "WB-01234567-INPUT"
REJECT = "-j REJECT --reject-with icmp-admin-prohibited"
OPEN = build_egress("open", ())


def rules(egress: Egress = OPEN, *, hub_has_egress: bool = False) -> list[str]:
    return list(build_rules(NETWORK, egress, dns_servers=[DNS], hub_has_egress=hub_has_egress))


def forward(egress: Egress = OPEN, *, hub_has_egress: bool = False) -> list[str]:
    made = rules(egress, hub_has_egress=hub_has_egress)
    return [r.removeprefix(f"-A {FORWARD} ") for r in made if r.startswith(f"-A {FORWARD} ")]


def test_between_containers_only_three_ways_are_open() -> None:
    inside = [rule for rule in forward() if "-o wb-01234567" in rule and "! -o" not in rule]
    assert inside == [
        "-o wb-01234567 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-d 172.28.0.3/32 -o wb-01234567 -p tcp -m tcp --dport 8081 -j ACCEPT",
        "-s 172.28.0.2/32 -o wb-01234567 -p tcp -m tcp --dport 8888 -j ACCEPT",
        "-s 172.28.0.3/32 -o wb-01234567 -p tcp -m tcp --dport 8888 -j ACCEPT",
        f"-o wb-01234567 {REJECT}",
    ]


def test_private_ranges_are_rejected_after_dns_and_what_is_allowed() -> None:
    allowed = build_egress("open", parse_destinations("10.1.2.0/24:443"))
    made = forward(allowed)
    first_private = made.index(f"-d {PRIVATE_RANGES[0]} {REJECT}")
    assert made[first_private - 4 : first_private] == [
        "-d 10.1.1.53/32 -p udp -m udp --dport 53 -j RETURN",
        "-d 10.1.1.53/32 -p tcp -m tcp --dport 53 -j RETURN",
        "-d 10.1.2.0/24 -p tcp -m tcp --dport 443 -j RETURN",
        "-d 10.1.2.0/24 -p udp -m udp --dport 443 -j RETURN",
    ]
    assert made[first_private:-1] == [f"-d {private} {REJECT}" for private in PRIVATE_RANGES]
    assert made[-1] == "-j RETURN"


@pytest.mark.parametrize(
    "special",
    [
        "10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1", "100.64.0.1", "169.254.169.254",
        "127.0.0.1", "0.0.0.0", "224.0.0.251", "255.255.255.255",
    ],
)  # fmt: skip
def test_every_special_address_is_private(special: str) -> None:
    address = ipaddress.IPv4Address(special)
    assert any(address in ipaddress.IPv4Network(private) for private in PRIVATE_RANGES)


def test_none_closes_dns_and_everything() -> None:
    made = forward(build_egress("none", ()))
    assert made[-1] == REJECT
    assert not [rule for rule in made if "--dport 53" in rule]
    assert not [rule for rule in rules(build_egress("none", ())) if "10.1.1.53" in rule]


def test_a_list_opens_itself_and_dns() -> None:
    made = forward(build_egress("203.0.113.0/24", ()))
    assert "-d 203.0.113.0/24 -j RETURN" in made
    assert made[-1] == REJECT
    assert [rule for rule in made if "--dport 53" in rule]


def test_a_list_of_everything_is_written_as_iptables_prints_it() -> None:
    assert "-j RETURN" in forward(build_egress("0.0.0.0/0", ()))
    assert "-p tcp -m tcp --dport 443 -j RETURN" in forward(build_egress("0.0.0.0/0:443", ()))


def test_the_hub_has_egress_only_where_it_needs_some() -> None:
    assert f"-s 172.28.0.3/32 {REJECT}" in forward()
    assert "-s 172.28.0.3/32 -j RETURN" not in forward()
    made = forward(hub_has_egress=True)
    assert made.index("-s 172.28.0.3/32 -j RETURN") < made.index(f"-s 172.28.0.3/32 {REJECT}")


def test_the_host_answers_only_dns() -> None:
    assert [rule.removeprefix(f"-A {INPUT} ") for rule in rules() if INPUT in rule] == [
        "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
        "-d 10.1.1.53/32 -p udp -m udp --dport 53 -j RETURN",
        "-d 10.1.1.53/32 -p tcp -m tcp --dport 53 -j RETURN",
        REJECT,
    ]


def test_ipv6_is_rejected_whole() -> None:
    reject = "-j REJECT --reject-with icmp6-adm-prohibited"
    assert build_rules_v6(NETWORK) == (f"-A {FORWARD} {reject}", f"-A {INPUT} {reject}")


def test_names_fit_and_belong_to_one_instance() -> None:
    assert network_id("workbench") != network_id("workbench2")
    assert len(f"wbc-{network_id('x' * 20)}") <= 15, "Linux allows an interface 15 characters"
    assert len(FORWARD) <= 28, "iptables allows a chain 28 characters"


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("", ()),
        ("198.51.100.7", ("198.51.100.7/32",)),
        ("198.51.100.7:443, 10.0.0.0/8", ("198.51.100.7/32:443", "10.0.0.0/8")),
        ("10.1.2.0/24:65535,", ("10.1.2.0/24:65535",)),
    ],
)
def test_destinations_are_read(text: str, normal: tuple[str, ...]) -> None:
    assert tuple(str(destination) for destination in parse_destinations(text)) == normal


@pytest.mark.parametrize(
    "text",
    [
        "example.org", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:",
        "10.0.0.1:a", "::1", "fd00::/8", "10.0.0.1 -j ACCEPT", "10.0.0.1;reboot", "10.0.0.1:٣",
    ],
)  # fmt: skip
def test_what_is_no_destination_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="IPv4 addresses or networks"):
        parse_destinations(text)


def test_egress_is_a_word_or_a_list() -> None:
    assert (parse_egress("open"), parse_egress("none")) == ("open", "none")
    assert parse_egress(" 198.51.100.7 ") == "198.51.100.7/32"
    with pytest.raises(ValueError, match="open, none, or a list"):
        parse_egress("")
    with pytest.raises(ValueError, match="IPv4"):
        parse_egress("closed")


def test_a_subnet_has_room() -> None:
    assert str(parse_subnet("192.168.16.0/20")) == "192.168.16.0/20"
    for text in ("192.168.16.1/20", "192.168.16.0/29", "fd00::/64", "x"):
        with pytest.raises(ValueError, match="an IPv4 subnet"):
            parse_subnet(text)
