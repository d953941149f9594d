"""Network probes: what counts as a way, and what proves nothing."""

import json
from dataclasses import asdict

import pytest

from spawner.audit.network import list_reachable, read_attempts
from spawner.audit.rules import Rule
from spawner.model import Unknown
from spawner.network_probe import Attempt, Outcome, connect, read_gateway

HUB = Attempt("the hub's API", "hub", 8081, Outcome.OPEN)


@pytest.mark.parametrize(
    ("outcome", "is_way"),
    [
        (Outcome.OPEN, True),
        (Outcome.REFUSED, True),
        (Outcome.REJECTED, False),
        (Outcome.SILENT, False),
        (Outcome.UNRESOLVED, False),
    ],
)
def test_an_answer_of_the_other_side_is_a_way(outcome: Outcome, is_way: bool) -> None:
    found = list_reachable((HUB, Attempt("the host", "172.28.0.1", 22, outcome)))
    assert [finding.rule for finding in found] == [Rule.REACHABLE_FROM_SERVERS] * is_way
    if is_way:
        assert found[0].subject == "172.28.0.1:22"
        assert found[0].sentence.startswith("A server reaches the host: ")


def test_attempts_are_read_as_the_probe_prints_them() -> None:
    assert read_attempts(json.dumps([asdict(HUB)]) + "\r\n") == (HUB,)


@pytest.mark.parametrize(
    "log", ["", "Traceback", "{}x", '[{"target": 1}]', '[{"outcome": "x"}]', "[1]"]
)
def test_an_answer_of_another_form_is_unknown(log: str) -> None:
    with pytest.raises(Unknown, match="cannot be read"):
        read_attempts(log)


def test_the_gateway_is_read_from_the_routes() -> None:
    head = "Iface\tDestination\tGateway \tFlags\n"
    assert read_gateway(head + "eth0\t00000000\t010013AC\t0003\t\n") == "172.19.0.1"
    with pytest.raises(ValueError, match="no default route"):
        read_gateway(head)


async def test_a_closed_port_is_told_from_an_open_one(unused_tcp_port: int) -> None:
    attempt = await connect("here", "127.0.0.1", unused_tcp_port)
    assert attempt.outcome is Outcome.REFUSED
    attempt = await connect("nowhere", "no-such-host.invalid", 80)
    assert attempt.outcome is Outcome.UNRESOLVED
