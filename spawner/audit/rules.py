"""Rules: finds contradictions in an observed state, with pure functions.

A finding names its subject. It counts only if it persists, because the three sources cannot be read at one instant.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from spawner.model import Account, Lease, LeaseState
from spawner.policy import names

SETTLE_SECONDS = 5.0  # the hub detects an end within 3 s
LONGEST_START_SECONDS = 600.0
LONGEST_CLOSING_SECONDS = 600.0
_HOLDING = frozenset(LeaseState) - {LeaseState.WAITING, LeaseState.CLOSED}


class Rule(StrEnum):
    """The invariants, each by the name of its violation."""

    GPU_IN_TWO_CONTAINERS = "gpu_in_two_containers"
    CONTAINER_WITHOUT_LEASE = "container_without_lease"
    OTHER_GPUS_THAN_LEASED = "other_gpus_than_leased"
    CLAIM_WITHOUT_LEASE = "claim_without_lease"
    LEASE_WITHOUT_CONTAINER = "lease_without_container"
    GRANTED_IN_QUARANTINE = "granted_in_quarantine"
    GRANTED_WHILE_DRAINED = "granted_while_drained"
    CLOSED_WITHOUT_CAUSE = "closed_without_cause"
    LEASE_OF_NOBODY = "lease_of_nobody"
    HOME_MISSING = "home_missing"
    SERVER_AT_WRONG_CONTAINER = "server_at_wrong_container"
    REACHABLE_FROM_SERVERS = "reachable_from_servers"


@dataclass(frozen=True)
class Finding:
    """One violation of a rule: its subject and a sentence for the admin."""

    rule: Rule
    subject: str
    sentence: str


@dataclass(frozen=True)
class ObservedContainer:
    """A running server as Docker describes it; the GPUs are its actual devices, not those of its label."""

    name: str
    gpu_uuids: frozenset[str]


@dataclass(frozen=True)
class ObservedServer:
    """A server of the hub's database and the host of its route."""

    user: str
    name: str
    host: str


@dataclass(frozen=True)
class ObservedState:
    """The state of all three sources at ``now``, a time of the lease clock.

    ``leases`` are the live ones and the closed ones without a cause. ``claims`` map a GPU UUID to a lease id.
    ``adopted`` are the ids of adopted leases, owner real time of grant is unknown.
    ``quarantined_at`` and ``drained_at`` map a GPU UUID to the start of its quarantine or drain.
    ``homes`` map each account with a prepared home to whether its volume exists. ``users`` are the hub's users.
    """

    instance: str
    now: float
    containers: tuple[ObservedContainer, ...]
    leases: tuple[Lease, ...]
    adopted: frozenset[str]
    claims: Mapping[str, str]
    quarantined_at: Mapping[str, float]
    drained_at: Mapping[str, float]
    homes: Mapping[Account, bool]
    servers: tuple[ObservedServer, ...]
    users: frozenset[str]

    def holders(self) -> dict[str, Lease]:
        """Return the leases that may have a container, by the name of that container."""
        return {
            names.container_name(self.instance, lease): lease
            for lease in self.leases
            if lease.state in _HOLDING
        }


def audit(probe: Callable[[], ObservedState]) -> tuple[ObservedState, tuple[Finding, ...]]:
    """Return the state and the findings that persist in a second probe: one probe is not one instant.

    A GPU in two containers counts at once, because Docker lists all running containers in one answer.
    """
    state = probe()
    found = check_rules(state)
    if found:
        time.sleep(SETTLE_SECONDS)
        state = probe()
        still = {(finding.rule, finding.subject) for finding in check_rules(state)}
        found = tuple(
            finding
            for finding in found
            if finding.rule is Rule.GPU_IN_TWO_CONTAINERS
            or (finding.rule, finding.subject) in still
        )
    return state, found


def check_rules(state: ObservedState) -> tuple[Finding, ...]:
    """Return every rule that ``state`` breaks."""
    return tuple(finding for rule in _RULES for finding in rule(state))


def _gpus_in_two_containers(state: ObservedState) -> Iterator[Finding]:
    uses = Counter(uuid for container in state.containers for uuid in container.gpu_uuids)
    for uuid in sorted(uuid for uuid, count in uses.items() if count > 1):
        where = ", ".join(c.name for c in state.containers if uuid in c.gpu_uuids)
        yield Finding(Rule.GPU_IN_TWO_CONTAINERS, uuid, f"This GPU is in {where}.")


def _containers(state: ObservedState) -> Iterator[Finding]:
    holders = state.holders()
    for container in state.containers:
        lease = holders.get(container.name)
        if lease is None:
            yield Finding(
                Rule.CONTAINER_WITHOUT_LEASE,
                container.name,
                "This server runs, but the ledger has no live lease for it.",
            )
        elif container.gpu_uuids != frozenset(lease.gpu_uuids):
            yield Finding(
                Rule.OTHER_GPUS_THAN_LEASED,
                container.name,
                f"This server has {_list(container.gpu_uuids)}, but lease {lease.id} has {_list(lease.gpu_uuids)}.",
            )


def _claims(state: ObservedState) -> Iterator[Finding]:
    wanted = {(uuid, lease.id) for lease in state.holders().values() for uuid in lease.gpu_uuids}
    for uuid, lease_id in sorted(wanted ^ set(state.claims.items())):
        sentence = (
            f"Lease {lease_id} has this GPU, but did not claim it."
            if (uuid, lease_id) in wanted
            else f"Lease {lease_id} claims this GPU, but is not live or does not have it."
        )
        yield Finding(Rule.CLAIM_WITHOUT_LEASE, uuid, sentence)


def _leases(state: ObservedState) -> Iterator[Finding]:
    running = {container.name for container in state.containers}
    for name, lease in state.holders().items():
        why = None
        if lease.state is LeaseState.CLOSING:
            if state.now - (lease.ended_at or 0.0) > LONGEST_CLOSING_SECONDS:
                why = "has been closing for more than 10 minutes"
        elif name not in running and lease.state in (LeaseState.GRANTED, LeaseState.LOST):
            if state.now - (lease.granted_at or 0.0) > LONGEST_START_SECONDS:
                why = "was granted more than 10 minutes ago, but its server does not run"
        elif name not in running and lease.state is LeaseState.RUNNING:
            why = "is recorded as running, but its server does not run"
        if why is not None:
            sentence = f"The lease of {lease.user} on {_list(lease.gpu_uuids)} {why}."
            yield Finding(Rule.LEASE_WITHOUT_CONTAINER, lease.id, sentence)


def _quarantines(state: ObservedState) -> Iterator[Finding]:
    for uuid, lease in _granted_since(state.quarantined_at, state):
        sentence = (
            f"Lease {lease.id} of {lease.user} was granted this GPU while it was in quarantine."
        )
        yield Finding(Rule.GRANTED_IN_QUARANTINE, uuid, sentence)


def _drains(state: ObservedState) -> Iterator[Finding]:
    for uuid, lease in _granted_since(state.drained_at, state):
        sentence = f"Lease {lease.id} of {lease.user} was granted this GPU while it was drained."
        yield Finding(Rule.GRANTED_WHILE_DRAINED, uuid, sentence)


def _granted_since(
    closed_at: Mapping[str, float], state: ObservedState
) -> Iterator[tuple[str, Lease]]:
    for lease in state.holders().values():
        for uuid in lease.gpu_uuids:
            is_later = uuid in closed_at and (lease.granted_at or 0.0) > closed_at[uuid]
            if is_later and lease.id not in state.adopted:
                yield uuid, lease


def _causes(state: ObservedState) -> Iterator[Finding]:
    for lease in state.leases:
        if lease.state is LeaseState.CLOSED and lease.cause is None:
            sentence = f"This lease of {lease.user} was closed without a cause."
            yield Finding(Rule.CLOSED_WITHOUT_CAUSE, lease.id, sentence)


def _owners(state: ObservedState) -> Iterator[Finding]:
    for lease in state.leases:
        if lease.state is not LeaseState.CLOSED and lease.user not in state.users:
            sentence = (
                f"This lease of {lease.user} on {_list(lease.gpu_uuids)} is {lease.state.value}, but the hub has "
                "no such user. Create and delete that user, which ends the lease, or let its time run out."
            )
            yield Finding(Rule.LEASE_OF_NOBODY, lease.id, sentence)


def _homes(state: ObservedState) -> Iterator[Finding]:
    for account, is_there in state.homes.items():
        if not is_there:
            volume = names.home_volume(state.instance, account.user, account.uid)
            sentence = f"The home of {account.user} does not exist any more."
            yield Finding(Rule.HOME_MISSING, volume, sentence)


def _servers(state: ObservedState) -> Iterator[Finding]:
    holders = state.holders()
    for server in state.servers:
        lease = holders.get(server.host)
        if lease is not None and (lease.user, lease.server) == (server.user, server.name):
            continue
        owner = (
            "of no live lease" if lease is None else f"the server {lease.server!r} of {lease.user}"
        )
        yield Finding(
            Rule.SERVER_AT_WRONG_CONTAINER,
            f"{server.user}/{server.name}",
            f"The hub routes this server to the container {server.host}, which is {owner}.",
        )


_RULES = (
    _gpus_in_two_containers,
    _containers,
    _claims,
    _leases,
    _quarantines,
    _drains,
    _causes,
    _owners,
    _homes,
    _servers,
)


def _list(uuids: frozenset[str] | tuple[str, ...]) -> str:
    return ", ".join(sorted(uuids)) or "no GPU"
