"""Kills the hub as ``kill -9`` does, and holds what the next one makes of it against what was there at the death."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from testing.eventually import eventually_sync
from testing.load import Answer, Load, ObservedLease, ObservedServer
from testing.stack import docker

HALF_LIFE_HOURS = 168.0


@dataclass(frozen=True)
class Death:
    """The state at the hub's death; ``line`` has the waiting users, in order."""

    leases: tuple[ObservedLease, ...]
    containers: dict[str, ObservedServer]
    line: tuple[str, ...]


class Hub:
    """The hub's process and its outages, by the monotonic clock."""

    def __init__(self, load: Load) -> None:
        """Take the hub of the load's workbench."""
        self._load = load
        self._container = f"{load.stack.instance}-hub-1"
        self.outages: list[tuple[float, float]] = []
        self.deaths = 0

    def kill(self) -> Death:
        """Kill its process, wherever it is, and return what is there then; Docker starts the next one."""
        pid = eventually_sync(self._pid, seconds=120, what="a hub's process runs")
        if not self.outages or self.outages[-1][1] < math.inf:
            self.outages.append((time.monotonic(), math.inf))
        os.kill(pid, signal.SIGKILL)
        self.deaths += 1
        live = tuple(self._load.live_leases())
        return Death(live, self._load.containers(), order_queue(self._load, live))

    def await_next(self) -> None:
        """Wait until the next one answers."""
        eventually_sync(self._is_up, seconds=120, what="the next hub answers")
        self.outages[-1] = (self.outages[-1][0], time.monotonic())

    def was_up_for(self, answer: Answer) -> bool:
        """Return whether no outage touches the time of ``answer``."""
        return all(
            answer.answered_at < began or ended < answer.asked_at for began, ended in self.outages
        )

    def _pid(self) -> int | None:
        # the container's first process is Docker's init
        init = docker("inspect", "-f", "{{.State.Pid}}", self._container)
        children = Path(f"/proc/{init}/task/{init}/children")
        try:
            return int(children.read_text().split()[0])
        except (OSError, IndexError):
            return None

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"{self._load.stack.url}/hub/health").is_success
        except httpx.TransportError:
            return False


def order_queue(load: Load, leases: Sequence[ObservedLease]) -> tuple[str, ...]:
    """Return who waits, by the rule: who used least lately, then first come."""
    # all decay alike, so the order is that of the logarithms at any one moment
    query = "SELECT * FROM use JOIN leases USING (uid) WHERE state = 'waiting' AND gpu_hours > 0"
    weight = {
        row["user"]: math.log2(row["gpu_hours"]) + row["at"] / 3600 / HALF_LIFE_HOURS
        for row in load.read_ledger(query)
    }
    waiting = [lease for lease in leases if lease.state == "waiting"]
    waiting.sort(key=lambda one: (weight.get(one.user, -math.inf), one.requested_at, one.id))
    return tuple(lease.user for lease in waiting)


def differences(load: Load, deaths: Sequence[Death]) -> list[str]:
    """Return what is not, or not yet, as it has to be after ``deaths``, a sentence each."""
    return [sentence for look in (_lost, _unsettled) for sentence in look(load, deaths)]


def _lost(load: Load, deaths: Sequence[Death]) -> Iterator[str]:
    """Yield what was there at one of the deaths and is not any more."""
    leases = {lease.user: lease for lease in load.live_leases()}
    containers, users = load.containers(), load.users()
    waiting = load.waiting()
    for death in deaths:
        for was in death.leases:
            now = leases.get(was.user)
            if was.state == "running":
                if now is None or (now.id, now.state) != (was.id, "running"):
                    yield f"the running lease {was} is {now}"
                if containers.get(was.user) != death.containers.get(was.user, "none"):
                    yield f"the server of {was.user} is not the one that ran"
            elif was.state == "closing":
                if now is not None and now.id == was.id:
                    yield f"{was} is still closing"
            # a user who is being deleted leaves the queue
            elif was.gpu_count and was.user in users and not _has_place(now, was):
                yield f"the place of {was} is {now}"
        before = [user for user in death.line if user in waiting]
        if before != [user for user in waiting if user in before]:
            yield f"the line was {death.line} and is {waiting}"


def _has_place(now: ObservedLease | None, was: ObservedLease) -> bool:
    return now is not None and now.requested_at == was.requested_at


def _unsettled(load: Load, _: Sequence[Death]) -> Iterator[str]:
    """Yield where hub, ledger, Docker and proxy are not of one mind."""
    live = load.live_leases()
    running = {lease.user for lease in live if lease.state == "running"}
    line = order_queue(load, live)
    if moving := [lease for lease in live if lease.state not in ("running", "waiting")]:
        yield f"on their way: {moving}"
    if load.waiting() != [*line]:
        yield f"the hub's line is {load.waiting()}, the ledger's {line}"
    servers = load.servers("active")
    if {user for user, one in servers.items() if one["ready"]} != running:
        yield f"the hub's servers are {servers}, the ledger's {running}"
    if {user for user, one in servers.items() if one["pending"] == "spawn"} != {*line}:
        yield f"the hub's pending servers are {servers}, the line is {line}"
    if load.containers().keys() != running:
        yield f"Docker runs {load.containers()}, the ledger {running}"
    if unserved := [user for user in sorted(running) if not load.is_served(user)]:
        yield f"the proxy does not reach the servers of {unserved}"
    audit = load.audit()
    if audit["code"] != 0:
        yield f"the auditor says {audit}"
