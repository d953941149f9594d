"""The rules, as pure functions of what was seen, and when a contradiction counts.

A rule names who breaks it; what is wrong for a moment only, because three places cannot be read at once, is not wrong.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from spawner.model import Account, Lease, LeaseState
from spawner.policy import names

SETTLE_SECONDS = 5.0  # an end is noticed within 3 s
LONGEST_START_SECONDS = 600.0
LONGEST_CLOSING_SECONDS = 600.0
_HOLDING = frozenset(LeaseState) - {LeaseState.WAITING, LeaseState.CLOSED}


class Rule(StrEnum):
    """What may never be, each by the name of its violation."""

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


@dataclass(frozen=True)
class Finding:
    """One rule that is broken: by whom, and a sentence for the admin."""

    rule: Rule
    subject: str
    sentence: str


@dataclass(frozen=True)
class ObservedContainer:
    """A running server as Docker describes it; the GPUs are those that it was given, not those of its label."""

    name: str
    gpu_uuids: frozenset[str]


@dataclass(frozen=True)
class ObservedServer:
    """A server of the hub's database with the host to which its route leads."""

    user: str
    name: str
    host: str


@dataclass(frozen=True)
class ObservedState:
    """Everything that was seen at ``now`` (of the lease clock).

    ``leases`` are the live ones and the closed ones without a cause; ``claims`` map a GPU's UUID to a lease id;
    ``adopted`` are the ids of those that only a running container proves: when they were granted, nobody knows;
    ``quarantined_at`` and ``drained_at`` map the UUIDs of GPUs that are to when that began; ``homes`` are the accounts
    whose home was prepared, each with whether its volume is there; ``users`` are those whom the hub knows.
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


def audit(look: Callable[[], ObservedState]) -> tuple[ObservedState, tuple[Finding, ...]]:
    """Return what is wrong, and still is a moment later: the first look is not of one instant.

    Two containers with one GPU are always wrong: Docker lists who runs in one answer.
    """
    world = look()
    found = check_rules(world)
    if found:
        time.sleep(SETTLE_SECONDS)
        world = look()
        still = {(finding.rule, finding.subject) for finding in check_rules(world)}
        found = tuple(
            finding
            for finding in found
            if finding.rule is Rule.GPU_IN_TWO_CONTAINERS
            or (finding.rule, finding.subject) in still
        )
    return world, found


def check_rules(world: ObservedState) -> tuple[Finding, ...]:
    """Return every rule that ``world`` breaks."""
    return tuple(finding for rule in _RULES for finding in rule(world))


def _gpus_in_two_containers(world: ObservedState) -> Iterator[Finding]:
    given = Counter(uuid for container in world.containers for uuid in container.gpu_uuids)
    for uuid in sorted(uuid for uuid, count in given.items() if count > 1):
        where = ", ".join(c.name for c in world.containers if uuid in c.gpu_uuids)
        yield Finding(Rule.GPU_IN_TWO_CONTAINERS, uuid, f"This GPU is in {where}.")


def _containers(world: ObservedState) -> Iterator[Finding]:
    holders = world.holders()
    for container in world.containers:
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
                f"This server has {_list(container.gpu_uuids)}, but lease {lease.id} is for {_list(lease.gpu_uuids)}.",
            )


def _claims(world: ObservedState) -> Iterator[Finding]:
    wanted = {(uuid, lease.id) for lease in world.holders().values() for uuid in lease.gpu_uuids}
    for uuid, lease_id in sorted(wanted ^ set(world.claims.items())):
        sentence = (
            f"Lease {lease_id} is for this GPU, but has not claimed it."
            if (uuid, lease_id) in wanted
            else f"This GPU is claimed by lease {lease_id}, which is not live or not for it."
        )
        yield Finding(Rule.CLAIM_WITHOUT_LEASE, uuid, sentence)


def _leases(world: ObservedState) -> Iterator[Finding]:
    running = {container.name for container in world.containers}
    for name, lease in world.holders().items():
        why = None
        if lease.state is LeaseState.CLOSING:
            if world.now - (lease.ended_at or 0.0) > LONGEST_CLOSING_SECONDS:
                why = "is being given back for longer than 10 minutes"
        elif name not in running and lease.state in (LeaseState.GRANTED, LeaseState.LOST):
            if world.now - (lease.granted_at or 0.0) > LONGEST_START_SECONDS:
                why = "was granted more than 10 minutes ago, and no server of it runs"
        elif name not in running and lease.state is LeaseState.RUNNING:
            why = "counts as running, but no server of it runs"
        if why is not None:
            sentence = f"The lease of {lease.user} on {_list(lease.gpu_uuids)} {why}."
            yield Finding(Rule.LEASE_WITHOUT_CONTAINER, lease.id, sentence)


def _quarantines(world: ObservedState) -> Iterator[Finding]:
    for uuid, lease in _granted_since(world.quarantined_at, world):
        sentence = (
            f"Lease {lease.id} of {lease.user} was granted this GPU while it was in quarantine."
        )
        yield Finding(Rule.GRANTED_IN_QUARANTINE, uuid, sentence)


def _drains(world: ObservedState) -> Iterator[Finding]:
    for uuid, lease in _granted_since(world.drained_at, world):
        sentence = f"Lease {lease.id} of {lease.user} was granted this GPU while it was drained."
        yield Finding(Rule.GRANTED_WHILE_DRAINED, uuid, sentence)


def _granted_since(closed_at: Mapping[str, float], world: ObservedState) -> Iterator[tuple[str, Lease]]:
    for lease in world.holders().values():
        for uuid in lease.gpu_uuids:
            is_later = uuid in closed_at and (lease.granted_at or 0.0) > closed_at[uuid]
            if is_later and lease.id not in world.adopted:
                yield uuid, lease


def _causes(world: ObservedState) -> Iterator[Finding]:
    for lease in world.leases:
        if lease.state is LeaseState.CLOSED and lease.cause is None:
            sentence = f"This lease of {lease.user} was closed without a cause."
            yield Finding(Rule.CLOSED_WITHOUT_CAUSE, lease.id, sentence)


def _owners(world: ObservedState) -> Iterator[Finding]:
    for lease in world.leases:
        if lease.state is not LeaseState.CLOSED and lease.user not in world.users:
            sentence = (
                f"This lease of {lease.user} on {_list(lease.gpu_uuids)} is {lease.state.value}, but the hub knows "
                "no such user: create them and delete them, which stops it, or let its time run out."
            )
            yield Finding(Rule.LEASE_OF_NOBODY, lease.id, sentence)


def _homes(world: ObservedState) -> Iterator[Finding]:
    for account, is_there in world.homes.items():
        if not is_there:
            volume = names.home_volume(world.instance, account.user, account.uid)
            sentence = f"The home of {account.user} is not there any more."
            yield Finding(Rule.HOME_MISSING, volume, sentence)


def _servers(world: ObservedState) -> Iterator[Finding]:
    holders = world.holders()
    for server in world.servers:
        lease = holders.get(server.host)
        if lease is not None and (lease.user, lease.server) == (server.user, server.name):
            continue
        whose = (
            "no live lease's" if lease is None else f"the one of {lease.user}'s {lease.server!r}"
        )
        yield Finding(
            Rule.SERVER_AT_WRONG_CONTAINER,
            f"{server.user}/{server.name}",
            f"The hub leads this server to the container {server.host}, which is {whose}.",
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
