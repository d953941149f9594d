"""The workbench's own proof: ``workbench network probe`` sees a way that is there, and its absence."""

import json
import re

from spawner.policy.network import INPUT_CHAIN
from testing.stack import Stack, docker, run
from tests.attacks.conftest import gateways
from tests.attacks.flush import flush, network, remove_jumps

HUB = "wbattacks-hub-1"


def probe() -> tuple[int, str]:
    done = run("/usr/bin/docker", "exec", HUB, "workbench", "network", "probe")
    return done.returncode, done.stdout + done.stderr


def test_the_probe_is_clean_and_leaves_nothing(stack: Stack) -> None:
    code, said = probe()
    found = re.fullmatch(r"Clean: ([0-9]+) connections tried\.\n", said)
    assert (code, found is not None) == (0, True), said
    # each of the host's addresses, on four ports
    assert found is not None
    assert int(found[1]) >= 11 + 4 * len(set(gateways()))
    label = f"label=workbench.instance={stack.instance}"
    names = docker("ps", "--all", "--filter", label, "--format", "{{.Names}}").split()
    assert not [name for name in names if "probe" in name]


def test_the_audit_tries_the_walls(alice: str) -> None:
    done = run("/usr/bin/docker", "exec", HUB, "workbench", "audit", "run", "--json")
    assert (done.returncode, json.loads(done.stdout)["findings"]) == (0, [])


def test_the_probe_finds_the_host_without_rules(stack: Stack, paused_guard: None) -> None:
    remove_jumps(INPUT_CHAIN)
    assert run("nft", "delete", "table", "inet", network().bridge).returncode == 0
    code, said = probe()
    assert code == 1, said
    assert "A server reaches the host: the connection was" in said


def test_what_could_not_be_tried_is_unknown(stack: Stack, paused_guard: None) -> None:
    """Without any rule Docker's own one cuts the hub off as well, so silence proves nothing."""
    flush()
    code, said = probe()
    assert code == 2, said
    assert "The hub cannot reach the network probe's peer" in said
