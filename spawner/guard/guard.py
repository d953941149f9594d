"""Guard: checks the walls of one workbench's networks every few seconds, restores them and reports."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from spawner.guard.dns_servers import read_dns_servers
from spawner.guard.firewall import FORWARD, Firewall, Wanted
from spawner.guard.second_wall import SecondWall
from spawner.guard_state import write_guard_state
from spawner.model import Unknown
from spawner.policy.network import (
    INPUT_CHAIN,
    USER_CHAIN,
    UsersNetwork,
    build_rules,
    build_rules_v6,
    build_second_wall,
)
from spawner.settings import Settings

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
INTERFACES = Path("/sys/class/net")
BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
IPV6 = Path("/proc/net/if_inet6")


class Guard:
    """Keeps the rules of one workbench's networks in place."""

    def __init__(self, settings: Settings, network: UsersNetwork) -> None:
        self._settings = settings
        self._network = network
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
        return self._settings.egress_rules.has_dns or self._settings.hub_has_egress

    def _families(self) -> list[tuple[Firewall, Wanted]]:
        network, settings = self._network, self._settings
        rules = build_rules(
            network,
            settings.egress_rules,
            dns_servers=read_dns_servers(),
            hub_has_egress=settings.hub_has_egress,
        )
        families = [(self._v4, Wanted(network.chains, rules, network.jumps))]
        if IPV6.exists():
            jumps = {FORWARD: network.jumps[USER_CHAIN], INPUT_CHAIN: network.jumps[INPUT_CHAIN]}
            families.append((self._v6, Wanted(network.chains, build_rules_v6(network), jumps)))
        return families


def keep(guard: Guard, state_file: Path, ended: threading.Event) -> None:
    """Check every few seconds until ``ended``, and report each time."""
    reported: str | None = None
    while not ended.is_set():
        try:
            guard.ensure()
            problem = ""
        except Unknown as error:
            problem = str(error)
        write_guard_state(state_file, problem)
        if problem != reported:
            log.warning("walls=%s reason=%s", "unknown" if problem else "in-place", problem or "-")
            reported = problem
        ended.wait(CHECK_SECONDS)
