"""Learns that a server ended, and why, soon after it did.

An event only makes it look: a lease is closed on EventSource's own word about its container, never on an event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Protocol

from spawner.containers import ContainerStatus, ContainerEnd, EventGap
from spawner.ledger import Ledger
from spawner.model import Cause, Lease, LeaseState, Unknown

log = logging.getLogger("workbench.ends")

# until then a container that is only restarted by hand runs again, and the kernel's word about its memory has come
SETTLE_SECONDS = 1.0
RETRY_SECONDS = 1.0
_CONCURRENT_CHECKS = 8
_KILLED = 128 + 9  # how a process ends that the kernel kills
_MAY_END = frozenset({LeaseState.RUNNING, LeaseState.LOST})


class LeaseReleaser(Protocol):
    """Who closes leases: the controller."""

    async def inspect(self, lease_id: str) -> ContainerStatus | None:
        """Return what EventSource says of the lease's container, None on proof of absence; raises Unknown."""

    async def running(self) -> frozenset[str]:
        """Return the ids of the leases whose containers EventSource lists as running; raises Unknown."""

    async def release(self, lease_id: str, cause: Cause) -> bool:
        """Close the lease for ``cause``."""


class EventSource(Protocol):
    """Who tells of ends: the containers."""

    def watch(self) -> AsyncIterator[ContainerEnd | EventGap]:
        """Yield ends for ever."""


def cause_of_end(status: ContainerStatus | None, *, oom: bool = False) -> Cause:
    """Return why a server ended whose container looks like ``status``, None when it is gone.

    ``oom``: the kernel is known to have ended a process of it at its memory limit.
    """
    if status is None:
        return Cause.LOST
    # a kernel of a notebook may run out of memory too, and the server lives on
    if (oom or status.oom_killed) and status.exit_code == _KILLED:
        return Cause.OUT_OF_MEMORY
    # what is removed by hand is killed first, and may take its time to go
    return Cause.LOST if status.is_being_removed else Cause.EXITED


class EndWatcher:
    """Follows EventSource's events and closes each lease whose server ended, for the cause of its end."""

    def __init__(self, docker: EventSource, ledger: Ledger, leases: LeaseReleaser) -> None:
        """Listen to nobody yet."""
        self._docker = docker
        self._ledger = ledger
        self._leases = leases
        self._checks = asyncio.Semaphore(_CONCURRENT_CHECKS)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def follow(self) -> None:
        """Follow for ever; after a gap look at every server that should run."""
        try:
            async for told in self._docker.watch():
                if isinstance(told, EventGap):
                    for lease_id in await self._list_suspects():
                        self._check_soon(lease_id)
                else:
                    log.info("EventSource says that %s ended: %s", told.name, told)
                    self._check_soon(told.lease_id, oom=told.oom)
        finally:
            for task in self._tasks.values():
                task.cancel()

    def _check_soon(self, lease_id: str, *, oom: bool = False) -> None:
        if lease_id not in self._tasks:  # whoever is about to look sees this end too
            task = asyncio.create_task(self._release_ended(lease_id, oom=oom))
            self._tasks[lease_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(lease_id))

    async def _release_ended(self, lease_id: str, *, oom: bool) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        try:
            ended = await self._read_ended(lease_id)
            if ended is not None:
                lease, status = ended
                cause = cause_of_end(status, oom=oom)
                log.warning("Server %r of %s ended: %s", lease.server, lease.user, cause.value)
                await self._leases.release(lease_id, cause)
        except Exception:  # the others' ends must still be noticed; the hub polls this one
            log.exception("The end of lease %s was not noticed", lease_id)

    async def _list_suspects(self) -> tuple[str, ...]:
        """Return the leases that should run and that EventSource does not list as running."""
        while True:
            try:
                leases = await asyncio.to_thread(self._ledger.live_leases)
                running = await self._leases.running()
                return tuple(
                    lease.id
                    for lease in leases
                    if lease.state in _MAY_END and lease.id not in running
                )
            except Unknown as error:
                log.warning("Nobody knows whose server may have ended: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _read_ended(self, lease_id: str) -> tuple[Lease, ContainerStatus | None] | None:
        """Return a lease that should run and does not; None where there is nothing to end."""
        while True:
            try:
                lease = await asyncio.to_thread(self._ledger.lease, lease_id)
                if lease is None or lease.state not in _MAY_END:
                    return None
                async with self._checks:
                    status = await self._leases.inspect(lease_id)
            except Unknown as error:
                log.warning("Nobody knows whether lease %s still runs: %s", lease_id, error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            return None if status is not None and status.is_running else (lease, status)
