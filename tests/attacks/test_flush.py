"""Attack of chance: the firewall's rules of the workbench are gone, with the guard and without it."""

from spawner.network_probe import REACHED
from testing.attacker import address_of, attack, is_in_place, reached
from testing.eventually import eventually_sync
from testing.stack import Stack, docker, run
from tests.attacks.conftest import RENDEZVOUS_PORT
from tests.attacks.flush import GUARD, INSTANCE, flush, flush_both, logs, network, way_to_host

RESTORE_SECONDS = 6


def test_a_running_guard_restores_within_seconds(alice: str, bob: str, host_port: int) -> None:
    flush_both()
    eventually_sync(
        lambda: not reached(alice, [way_to_host(host_port)]),
        seconds=RESTORE_SECONDS,
        what="the host is walled again",
    )
    assert reached(f"{INSTANCE}-hub-1", [(bob, 8888)])


def test_without_rules_and_guard_neighbours_stay_apart(
    alice: str, bob: str, host_port: int, paused_guard: None
) -> None:
    flush_both()
    target = way_to_host(host_port)
    assert attack(alice, [target])[target] in REACHED, "the rules are what walls the host"
    neighbour = address_of(bob, f"{INSTANCE}-users")
    assert reached(alice, [(neighbour, 8888), (neighbour, RENDEZVOUS_PORT)]) == set()
    docker("unpause", GUARD)
    eventually_sync(
        lambda: not reached(alice, [target]),
        seconds=RESTORE_SECONDS,
        what="the host is walled again",
    )


def test_the_second_wall_holds_without_iptables(
    alice: str, bob: str, host_port: int, paused_guard: None
) -> None:
    """Docker's own rule is bypassed as if ``iptables -F`` had removed it as well."""
    flush()
    open_way = ("-i", network().bridge, "-j", "ACCEPT")
    assert run("iptables", "-w", "-I", "DOCKER-USER", *open_way).returncode == 0
    try:
        neighbour = address_of(bob, f"{INSTANCE}-users")
        targets = [way_to_host(host_port), (neighbour, 8888), (neighbour, RENDEZVOUS_PORT)]
        assert reached(alice, targets) == set()
        run("nft", "delete", "table", "inet", network().bridge)
        assert reached(alice, targets) == set(targets), "the second wall is what held"
    finally:
        run("iptables", "-w", "-D", "DOCKER-USER", *open_way)


def test_no_server_starts_while_the_guard_is_silent(stack: Stack, paused_guard: None) -> None:
    carol = stack.person("carol")
    broker = f"{INSTANCE}-broker-1"
    silent = "from spawner.guard_state import require_guard; require_guard()"
    eventually_sync(
        lambda: run("/usr/bin/docker", "exec", broker, "python3", "-c", silent).returncode == 1,
        seconds=15,
        what="the guard's word is too old",
    )
    carol.request_server()
    eventually_sync(
        lambda: "No server may start: The network guard" in logs(broker),
        seconds=20,
        what="the broker refuses",
    )
    assert stack.containers("carol") == []
    docker("unpause", GUARD)
    eventually_sync(lambda: is_in_place(GUARD), seconds=15, what="the walls are in place")
    eventually_sync(lambda: carol.start().is_success, seconds=60, what="a server starts again")
    assert len(stack.containers("carol")) == 1
    carol.stop()
