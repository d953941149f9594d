"""Guard: checks the walls of one workbench's networks every few seconds, restores them and reports."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from spawner.guard.dns_servers import is_replaced, read_dns_servers
from spawner.guard.firewall import FORWARD, Firewall, Wanted
from spawner.guard.host_addresses import read_host_addresses
from spawner.guard.second_wall import SecondWall
from spawner.guard_state import write_guard_state
from spawner.model import Unknown
from spawner.policy.network import (
    INPUT_CHAIN,
    USER_CHAIN,
    Egress,
    UsersNetwork,
    build_rules,
    build_rules_v6,
    build_second_wall,
)

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
INTERFACES = Path("/sys/class/net")
BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
IPV6 = Path("/proc/net/if_inet6")


class Guard:
    """Keeps the rules of one workbench's networks in place."""

    def __init__(self, egress: Egress, network: UsersNetwork, *, hub_has_egress: bool) -> None:
        self._egress = egress
        self._network = network
        self._hub_has_egress = hub_has_egress
        self._v4, self._v6 = Firewall("iptables-nft"), Firewall("ip6tables-nft")
        self._second = SecondWall(network.bridge)

    def ensure(self) -> None:
        """Restore what differs; raises Unknown with one sentence when the walls are not in place."""
        restored = [
            firewall.tool for firewall, wanted in self._families() if firewall.ensure(wanted)
        ]
        dns_servers = read_dns_servers() if self._has_dns else ()
        if self._second.ensure(build_second_wall(self._network, dns_servers)):
            restored.append("nft")
        if restored:
            log.warning("network=%s state=restored by=%s", self._network.bridge, ",".join(restored))
        if not (INTERFACES / self._network.bridge).exists():
            raise Unknown(
                f"The users' network has no bridge {self._network.bridge}: run scripts/up."
            )
        if not BRIDGE_FILTER.exists() or BRIDGE_FILTER.read_text().strip() != "1":
            raise Unknown(
                "Packets between containers pass no firewall: "
                "run 'sysctl -w net.bridge.bridge-nf-call-iptables=1' on the host."
            )

    def remove(self) -> None:
        """Remove every rule; raises Unknown."""
        for firewall, wanted in self._families():
            firewall.remove(wanted)
        self._second.remove()

    @property
    def _has_dns(self) -> bool:
        return self._egress.has_dns or self._hub_has_egress

    def _families(self) -> list[tuple[Firewall, Wanted]]:
        network = self._network
        rules = build_rules(
            network,
            self._egress,
            dns_servers=read_dns_servers(),
            hub_has_egress=self._hub_has_egress,
        )
        families = [(self._v4, Wanted(network.chains, rules, network.jumps))]
        if IPV6.exists():
            jumps = {FORWARD: network.jumps[USER_CHAIN], INPUT_CHAIN: network.jumps[INPUT_CHAIN]}
            families.append((self._v6, Wanted(network.chains, build_rules_v6(network), jumps)))
        return families


def keep(guard: Guard, state_file: Path, ended: threading.Event) -> None:
    """Check every few seconds until ``ended``, and report each time.

    A replaced ``resolv.conf`` ends it too: a new start of the container mounts the host's present file.
    """
    reported: str | None = None
    while not ended.is_set():
        if is_replaced():
            log.warning("guard=restarting reason=the host's resolv.conf was replaced")
            return
        try:
            guard.ensure()
            problem = ""
        except Unknown as error:
            problem = str(error)
        write_guard_state(state_file, problem, read_host_addresses())
        if problem != reported:
            log.warning("walls=%s reason=%s", "unknown" if problem else "in-place", problem or "-")
            reported = problem
        ended.wait(CHECK_SECONDS)
