"""Removal of the workbench's own firewall rules, as an admin does it who flushes all of them."""

from spawner.policy.network import UsersNetwork, instance_network, parse_subnet
from testing.stack import docker, run

INSTANCE = "wbattacks"
GUARD = f"{INSTANCE}-guard-1"


def network() -> UsersNetwork:
    shown = "{{range .IPAM.Config}}{{.Subnet}}{{end}}"
    subnet = docker("network", "inspect", "--format", shown, f"{INSTANCE}-users")
    return instance_network(INSTANCE, parse_subnet(subnet))


def flush() -> None:
    """Remove this workbench's jumps and empty its chains, as ``iptables -F`` does to all."""
    for chain in network().jumps:
        remove_jumps(chain)
    for chain in network().chains:
        assert run("iptables", "-w", "-F", chain).returncode == 0


def flush_both() -> None:
    """Remove the second wall too, as ``nft flush ruleset`` does to all."""
    flush()
    assert run("nft", "delete", "table", "inet", network().bridge).returncode == 0


def remove_jumps(chain: str) -> None:
    """Remove this workbench's jumps from one of the firewall's own chains."""
    for jump in network().jumps[chain]:
        assert run("iptables", "-w", "-D", chain, *jump.split()).returncode == 0


def logs(container: str) -> str:
    done = run("/usr/bin/docker", "logs", container)
    return done.stdout + done.stderr


def way_to_host(port: int) -> tuple[str, int]:
    return str(network().subnet.network_address + 1), port
