"""Reconciliation: makes the ledger match Docker; labelled containers are the truth.

A running container keeps its lease or is adopted, and is never removed. Two kinds are removed: a start that died with
the hub, and a stopped container without a lease.
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
from spawner.policy import container as policy
from spawner.policy.claims import explain_false_lease
from spawner.policy.names import container_name
from spawner.serial_executor import SerialExecutor
from spawner.settings import Settings

log = logging.getLogger(__name__)


class Reconciliation:
    """Reconciles all leases before the first spawn, and unknown containers again later."""

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
        """Take the dependencies; ``withhold`` receives the GPUs of containers without a lease."""
        self._ledger = ledger
        self._in_ledger = in_ledger
        self._containers = containers
        self._leases = leases
        self._settings = settings
        self._clock = clock
        self._withhold = withhold
        self._unknown: dict[str, tuple[str, ...]] = {}

    async def reconcile(self) -> None:
        """Reconcile every live lease, then adopt the containers that have none; raises Unknown.

        A lease whose start died with the hub returns to the queue. A lease without a container is closed.
        """
        found = {server.lease_id: server for server in await self._containers.list_servers()}
        leases = await self._in_ledger(self._ledger.live_leases)
        await asyncio.gather(
            *(
                self._reconcile_lease(lease)
                for lease in leases
                if not _runs_as_recorded(lease, found.get(lease.id))
            )
        )
        settled = {lease.id for lease in leases if lease.state is not LeaseState.WAITING}
        await self._adopt_all(one.name for one in found.values() if one.lease_id not in settled)
        log.info("Reconciled: containers=%d live_leases=%d", len(found), len(leases))

    async def adopt_unknown_containers(self) -> None:
        """Try again to adopt the containers without a lease; raises Unknown."""
        if self._unknown:
            await self._adopt_all(tuple(self._unknown))

    async def _reconcile_lease(self, lease: Lease) -> None:
        release = self._leases.release
        if lease.state is LeaseState.WAITING:
            return  # a running container of it comes from a newer ledger and is adopted as unknown
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
        """Return whether the container has run longer than a start takes: only a restored ledger says GRANTED then."""
        if not status.is_running or status.started_at is None:
            return False
        # a start in the future means that the clock was set back: its running time is unknown
        seconds = self._clock.wall() - status.started_at
        return not 0 <= seconds <= self._settings.start_timeout_seconds

    async def _adopt_all(self, names: Iterable[str]) -> None:
        unknown = {}
        for name in names:
            # a listed container may be gone by now
            status = await self._containers.inspect(name)
            if status is None or await self._adopt(status):
                continue
            unknown[name] = _read_gpus(status)
            if name not in self._unknown:
                log.error(
                    "Unknown container left running: container=%s gpus=%s reason=no live lease",
                    name,
                    ",".join(unknown[name]) or "none",
                )
        self._unknown = unknown
        self._withhold({uuid for gpu_uuids in unknown.values() for uuid in gpu_uuids})

    async def _adopt(self, status: ContainerStatus) -> bool:
        """Return whether the container has a live lease, was given one, or is gone."""
        lease_id = status.labels.get(policy.LABEL_LEASE, "")
        known = await self._in_ledger(self._ledger.lease, lease_id)
        if known is not None and known.state not in (LeaseState.WAITING, LeaseState.CLOSED):
            return True
        if not status.is_running:
            # no work runs in it, and without a lease it can never start
            await self._containers.remove(status.name, grace_seconds=0)
            return True
        lease = self._build_lease(lease_id, status)
        lie = explain_false_lease(lease, self._settings.first_uid)
        # under another name, the removal of this lease's container would prove the absence of a wrong one
        if lie or status.name != container_name(self._settings.instance, lease):
            if status.name not in self._unknown:
                why = lie or "its name is not that of its lease"
                log.warning("Not adopted: container=%s reason=%s", status.name, why)
            return False
        is_adopted = await self._in_ledger(self._ledger.adopt, lease)
        if is_adopted:
            log.warning("Adopted %s", log_fields(lease))
        return is_adopted

    def _build_lease(self, lease_id: str, status: ContainerStatus) -> Lease:
        """Return the lease that a running container proves; its hours start now."""
        labels, now, gpu_uuids = status.labels, self._clock(), _read_gpus(status)
        quota = self._settings.quota
        return Lease(
            id=lease_id,
            epoch=1,
            user=labels.get(policy.LABEL_USER, ""),
            server=labels.get(policy.LABEL_SERVER, ""),
            uid=int(uid) if (uid := labels.get(policy.LABEL_UID, "")).isdecimal() else -1,
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


def _runs_as_recorded(lease: Lease, listed: ListedServer | None) -> bool:
    """Return whether the container of ``lease`` runs as its state says, so that nothing needs to change."""
    is_running = listed is not None and listed.is_running
    return is_running and lease.state in (LeaseState.RUNNING, LeaseState.LOST)


def _read_gpus(status: ContainerStatus) -> tuple[str, ...]:
    return tuple(filter(None, status.labels.get(policy.LABEL_GPUS, "").split(",")))
