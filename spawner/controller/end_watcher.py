"""End watcher: detects that a server ended, and why, within seconds.

An event only triggers an inspection: a lease is closed on what Docker answers about its container, never on an event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Protocol

from spawner.containers import ContainerEnd, ContainerStatus, EventGap
from spawner.controller.lease_lifecycle import log_fields
from spawner.ledger import Ledger
from spawner.model import Cause, Lease, LeaseState, Unknown

log = logging.getLogger(__name__)

# by then a container restarted by hand runs again, and Docker has recorded a kill for memory
SETTLE_SECONDS = 1.0
RETRY_SECONDS = 1.0
_CONCURRENT_CHECKS = 8
_KILLED = 128 + 9  # exit code after SIGKILL
_MAY_END = frozenset({LeaseState.RUNNING, LeaseState.LOST})


class LeaseReleaser(Protocol):
    """Inspects and closes leases: the controller."""

    async def inspect(self, lease_id: str) -> ContainerStatus | None:
        """Return the status of the lease's container, None on proof of absence; raises Unknown."""

    async def running(self) -> frozenset[str]:
        """Return the ids of the leases whose containers Docker lists as running; raises Unknown."""

    async def release(self, lease_id: str, cause: Cause) -> bool:
        """Close the lease for ``cause``."""


class EventSource(Protocol):
    """Streams the ends of containers: the Docker client."""

    def watch(self) -> AsyncIterator[ContainerEnd | EventGap]:
        """Yield ends without end."""


def cause_of_end(status: ContainerStatus | None, *, oom: bool = False) -> Cause:
    """Return why a server ended, given its container's ``status`` (None: the container is gone).

    ``oom``: the kernel is known to have killed one of its processes at its memory limit.
    """
    if status is None:
        return Cause.LOST
    # a notebook kernel may be killed for memory while the server continues
    if (oom or status.oom_killed) and status.exit_code == _KILLED:
        return Cause.OUT_OF_MEMORY
    # a removal by hand kills the container first and may take a while to finish
    return Cause.LOST if status.is_being_removed else Cause.EXITED


class EndWatcher:
    """Follows Docker's events and closes each lease whose server ended, with the cause of its end."""

    def __init__(self, docker: EventSource, ledger: Ledger, leases: LeaseReleaser) -> None:
        """Take the dependencies; ``follow`` opens the event stream."""
        self._docker = docker
        self._ledger = ledger
        self._leases = leases
        self._checks = asyncio.Semaphore(_CONCURRENT_CHECKS)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def follow(self) -> None:
        """Follow the events until cancelled; after a gap inspect every server that should run."""
        try:
            async for event in self._docker.watch():
                if isinstance(event, EventGap):
                    for lease_id in await self._list_suspects():
                        self._check_soon(lease_id)
                else:
                    log.info(
                        "Docker reports an end: lease=%s container=%s exit_code=%s oom=%s removed=%s",
                        event.lease_id,
                        event.name,
                        event.exit_code,
                        event.oom,
                        event.is_removed,
                    )
                    self._check_soon(event.lease_id, oom=event.oom)
        finally:
            for task in self._tasks.values():
                task.cancel()

    def _check_soon(self, lease_id: str, *, oom: bool = False) -> None:
        if lease_id not in self._tasks:  # a check that is already scheduled sees this end too
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
                log.warning("Server ended: %s cause=%s", log_fields(lease), cause.value)
                await self._leases.release(lease_id, cause)
        except Exception:  # other ends must still be handled; the hub polls this server itself
            log.exception("End not handled: lease=%s", lease_id)

    async def _list_suspects(self) -> tuple[str, ...]:
        """Return the leases that should run but that Docker does not list as running."""
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
                log.warning("Ends since the last event are unknown: state=unknown reason=%s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _read_ended(self, lease_id: str) -> tuple[Lease, ContainerStatus | None] | None:
        """Return the lease and its status if it should run and does not; None if it needs no end."""
        while True:
            try:
                lease = await asyncio.to_thread(self._ledger.lease, lease_id)
                if lease is None or lease.state not in _MAY_END:
                    return None
                async with self._checks:
                    status = await self._leases.inspect(lease_id)
            except Unknown as error:
                log.warning(
                    "Server state unknown: lease=%s state=unknown reason=%s", lease_id, error
                )
                await asyncio.sleep(RETRY_SECONDS)
                continue
            return None if status is not None and status.is_running else (lease, status)
