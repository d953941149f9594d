"""Brings the ledger to what Docker shows: labelled containers are the truth.

A running container keeps its lease or is adopted, and is never removed; only a start that died with the hub goes, and
what does not run and has no lease.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable

from spawner.clock import Clock
from spawner.containers import Containers, ContainerStatus, ListedServer
from spawner.controller.end_watcher import cause_of_end
from spawner.controller.lease_lifecycle import LeaseLifecycle, log_fields
from spawner.ledger import Ledger
from spawner.model import Cause, Lease, LeaseState
from spawner.serial_executor import SerialExecutor
from spawner.policy import container as policy
from spawner.settings import Settings

log = logging.getLogger("workbench.controller")


class Reconciliation:
    """What a hub does before it admits anybody, and with containers that nobody knows."""

    def __init__(
        self,
        ledger: Ledger,
        in_ledger: SerialExecutor,
        containers: Containers,
        leases: LeaseLifecycle,
        settings: Settings,
        clock: Clock,
        withhold: Callable[[Collection[str]], None],
    ) -> None:
        """Join the parts; ``withhold`` is told which GPUs are used by containers without a lease."""
        self._ledger = ledger
        self._in_ledger = in_ledger
        self._containers = containers
        self._leases = leases
        self._settings = settings
        self._clock = clock
        self._withhold = withhold
        self._unknown: dict[str, tuple[str, ...]] = {}

    async def settle(self) -> None:
        """Settle every live lease, then take up the containers that have none; raises Unknown.

        A lease whose start died with the hub goes back into the line; one whose container is gone is closed.
        """
        found = {server.lease_id: server for server in await self._containers.list_servers()}
        leases = await self._in_ledger(self._ledger.live_leases)
        await asyncio.gather(
            *(self._settle(lease) for lease in leases if not _is_well(lease, found.get(lease.id)))
        )
        settled = {lease.id for lease in leases if lease.state is not LeaseState.WAITING}
        await self._adopt_all(one.name for one in found.values() if one.lease_id not in settled)
        log.info("Reconciled: %d containers, %d live leases", len(found), len(leases))

    async def adopt_unknown_containers(self) -> None:
        """Look once more at the containers that could not be adopted; raises Unknown."""
        if self._unknown:
            await self._adopt_all(tuple(self._unknown))

    async def _settle(self, lease: Lease) -> None:
        release = self._leases.release
        if lease.state is LeaseState.WAITING:
            return  # where its container runs, the ledger is an old one: it is met as a stranger
        if lease.state is LeaseState.CLOSING:
            await release(lease.id, Cause.LOST)
            return
        status = await self._leases.inspect(lease.id)
        if lease.state is LeaseState.GRANTED:
            if status is not None and self._is_past_its_start(status):
                await self._leases.confirm(lease.id)
            else:
                await release(lease.id, Cause.INTERRUPTED)
        elif status is None:
            await release(lease.id, Cause.LOST)
        elif not status.is_running:
            await release(lease.id, cause_of_end(status))

    def _is_past_its_start(self, status: ContainerStatus) -> bool:
        """True for a container that has run longer than a start takes: only an old ledger calls its lease granted."""
        if not status.is_running or status.started_at is None:
            return False
        # where the start lies ahead, the clock was set back: who knows how long it has run
        seconds = self._clock.wall() - status.started_at
        return not 0 <= seconds <= self._settings.start_timeout_seconds

    async def _adopt_all(self, names: Iterable[str]) -> None:
        strangers = {}
        for name in names:
            # what was listed may be gone by now
            status = await self._containers.inspect(name)
            if status is None or await self._adopt(status):
                continue
            strangers[name] = _read_gpus(status)
            if name not in self._unknown:
                log.error("Container %s has no live lease; it was left alone: look at it", name)
        self._unknown = strangers
        self._withhold({uuid for gpu_uuids in strangers.values() for uuid in gpu_uuids})

    async def _adopt(self, status: ContainerStatus) -> bool:
        """Return whether the container has a live lease, was given one, or is gone."""
        lease_id = status.labels.get(policy.LABEL_LEASE, "")
        known = await self._in_ledger(self._ledger.lease, lease_id)
        if known is not None and known.state not in (LeaseState.WAITING, LeaseState.CLOSED):
            return True
        if not status.is_running:
            # nobody works in it, and without a lease nobody will
            await self._containers.remove(status.name, grace_seconds=0)
            return True
        if not status.labels.get(policy.LABEL_UID, "").isdigit():
            return False
        lease = self._describe_lease(lease_id, status)
        is_adopted = await self._in_ledger(self._ledger.adopt, lease)
        if is_adopted:
            log.warning("Adopted %s", log_fields(lease))
        return is_adopted

    def _describe_lease(self, lease_id: str, status: ContainerStatus) -> Lease:
        """Return the lease that a running container proves; its time begins anew."""
        labels, now, gpu_uuids = status.labels, self._clock(), _read_gpus(status)
        quota = self._settings.quota
        return Lease(
            id=lease_id,
            epoch=1,
            user=labels.get(policy.LABEL_USER, ""),
            server=labels.get(policy.LABEL_SERVER, ""),
            uid=int(labels[policy.LABEL_UID]),
            release=labels.get(policy.LABEL_RELEASE, ""),
            gpu_count=len(gpu_uuids),
            mig_profile=labels.get(policy.LABEL_MIG_PROFILE) or None,
            hours=quota.max_lease_hours,
            priority=quota.priority,
            gpu_uuids=gpu_uuids,
            state=LeaseState.RUNNING,
            requested_at=now,
            granted_at=now,
            ends_at=now + quota.max_lease_hours * 3600.0 if gpu_uuids else None,
            is_claimed=True,
        )


def _is_well(lease: Lease, listed: ListedServer | None) -> bool:
    """Return whether nothing has to be done about ``lease``: it runs, as it should."""
    is_running = listed is not None and listed.is_running
    return is_running and lease.state in (LeaseState.RUNNING, LeaseState.LOST)


def _read_gpus(status: ContainerStatus) -> tuple[str, ...]:
    return tuple(filter(None, status.labels.get(policy.LABEL_GPUS, "").split(",")))
