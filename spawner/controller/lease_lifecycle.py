"""Lease lifecycle: launches, confirms, extends and closes the container of one lease.

An unknown state never frees a GPU and never kills a container: a lease closes only on proof of absence. The state
CLOSING is written before the container is inspected.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from weakref import WeakValueDictionary

from spawner.catalog import Catalog
from spawner.clock import Clock
from spawner.containers import Containers, ContainerStatus
from spawner.ledger import Ledger
from spawner.ledger.quotas import Owner
from spawner.ledger.trail import HUB
from spawner.model import (
    ACTIVE_STATES,
    Cause,
    LaunchError,
    Lease,
    LeaseState,
    Quota,
    Refused,
    StaleLease,
    WorkbenchError,
)
from spawner.policy import container as policy
from spawner.policy import names
from spawner.policy.quota_check import extend_lease
from spawner.serial_executor import SerialExecutor
from spawner.settings import Settings

log = logging.getLogger(__name__)

STOP_GRACE_SECONDS = 10

Report = Callable[[int, str], None]
"""(percent done before the step, its sentence)."""


class LeaseLifecycle:
    """Every step of a granted lease, over one ledger and one Docker Engine."""

    def __init__(
        self,
        ledger: Ledger,
        containers: Containers,
        catalog: Catalog,
        settings: Settings,
        clock: Clock,
        in_ledger: SerialExecutor,
        freed: Callable[[], None],
    ) -> None:
        """Take the dependencies; ``freed`` is called when a GPU or a queue position became free."""
        self._ledger = ledger
        self._containers = containers
        self._catalog = catalog
        self._settings = settings
        self._clock = clock
        self._in_ledger = in_ledger
        self._freed = freed
        self._home_locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self.on_closed: Callable[[Lease], None] = lambda _: None
        """Called with each lease that was closed on proof of absence; the hub sets it."""
        self.has_been_opened: Callable[[Lease], bool] = lambda _: False
        """Returns whether the lease's user has opened the server; the hub sets it."""

    async def launch(self, lease: Lease, environment: Mapping[str, str], report: Report) -> str:
        """Create and start the lease's container and return the host name at which it answers.

        ``report(percent, sentence)`` is called before each step. Raises LaunchError or Unknown.
        """
        instance = self._settings.instance
        image_id = await self._containers.image_id(self._catalog.releases[lease.release].image)
        # one start of a user at a time gets here: a home is prepared once, and before its first server runs
        async with self._home_locks.setdefault(lease.uid, asyncio.Lock()):
            account = await self._in_ledger(self._ledger.account, lease.uid)
            if account is None:
                raise LaunchError("Your account is not in the ledger: contact an admin.")
            if not account.is_home_prepared:
                report(20, "Preparing your home folder (the first time only)")
                await self._containers.prepare_home(
                    names.preparation_name(instance, account.uid),
                    policy.build_home_preparation(account, instance=instance, image_id=image_id),
                )
                await self._in_ledger(self._ledger.mark_home_prepared, account.uid)
        report(40, f"Creating your container from {lease.release}")
        name = names.container_name(instance, lease)
        body = policy.build_server(
            lease,
            account,
            instance=instance,
            image_id=image_id,
            limits=self._settings.limits,
            environment=environment,
        )
        await self._containers.create(name, body)
        report(55, "Starting your container")
        await self._containers.start(name)
        return name

    async def confirm(self, lease_id: str) -> None:
        """Record that the lease's server answered; raises LaunchError if the lease has ended meanwhile."""
        while True:
            lease = await self._in_ledger(self._ledger.lease, lease_id)
            if lease is None or lease.state not in ACTIVE_STATES:
                raise LaunchError(
                    "Your lease ended while your server was starting: start it again."
                )
            if lease.state is LeaseState.RUNNING:
                return
            with contextlib.suppress(StaleLease):  # the loop reads it again
                await self._in_ledger(
                    self._ledger.move, lease, LeaseState.RUNNING, now=self._clock()
                )

    async def mark_claimed(self, lease_id: str) -> None:
        """Record that the user has opened the server, which was granted while they were away."""
        lease = await self._in_ledger(self._ledger.lease, lease_id)
        if lease is not None and lease.state is LeaseState.RUNNING and not lease.is_claimed:
            # changed meanwhile: the next visit records it, or the lease is over
            with contextlib.suppress(StaleLease):
                await self._in_ledger(self._ledger.mark_claimed, lease)

    async def extend(self, owner: Owner, server: str, hours: float) -> Lease | Refused:
        """Extend the lease of the owner's server by ``hours``, or return why it cannot be extended."""
        now, key = self._clock(), (owner.name, server)

        def decide(leases: Sequence[Lease], quota: Quota, held: float) -> Lease | Refused:
            return extend_lease(key, hours, leases=leases, quota=quota, now=now, held=held)

        return await self._in_ledger(
            self._ledger.extend, decide, owner, quota=self._settings.quota, now=now
        )

    async def lease_of(self, user: str, server: str) -> Lease | None:
        """Return the live lease of the server, waiting ones included."""
        return await self._in_ledger(self._ledger.live_lease, user, server)

    async def release(
        self, lease_id: str, cause: Cause, *, by: str = HUB, reason: str | None = None
    ) -> bool:
        """Close the lease: record CLOSING, remove the container, then free the GPUs.

        A waiting lease only leaves the queue. The trail records ``by`` and ``reason``. Returns False if Docker could
        not prove the container's absence; ``run`` retries then.
        """
        lease = await self._begin_closing(lease_id, cause, by=by, reason=reason)
        return True if lease is None else await self._close(lease)

    async def release_server(self, user: str, server: str, cause: Cause, *, by: str = HUB) -> bool:
        """Close the live lease of this server, if any; True if none is left."""
        lease = await self.lease_of(user, server)
        return True if lease is None else await self.release(lease.id, cause, by=by)

    async def inspect(self, lease_id: str) -> ContainerStatus | None:
        """Return the status of the lease's container, None on proof of absence; raises Unknown."""
        lease = await self._in_ledger(self._ledger.lease, lease_id)
        if lease is None or lease.state in (LeaseState.WAITING, LeaseState.CLOSED):
            return None
        return await self._containers.inspect(self._container_name(lease))

    async def running(self) -> frozenset[str]:
        """Return the ids of the leases whose containers Docker lists as running; raises Unknown."""
        listed = await self._containers.list_servers()
        return frozenset(server.lease_id for server in listed if server.is_running)

    async def log_tail(self, lease: Lease) -> str:
        """Return the last lines the lease's container wrote; raises Unknown."""
        return await self._containers.log_tail(self._container_name(lease))

    async def _begin_closing(
        self, lease_id: str, cause: Cause, *, by: str, reason: str | None
    ) -> Lease | None:
        """Record that the lease is closing and return it; None if nothing is left to close."""
        while True:
            lease = await self._in_ledger(self._ledger.lease, lease_id)
            if lease is None or lease.state is LeaseState.CLOSED:
                return None
            if lease.state is LeaseState.CLOSING:
                return lease
            is_waiting = lease.state is LeaseState.WAITING
            to = LeaseState.CLOSED if is_waiting else LeaseState.CLOSING
            move = self._in_ledger(
                self._ledger.move, lease, to, now=self._clock(), cause=cause, by=by, reason=reason
            )
            with contextlib.suppress(StaleLease):  # the loop reads it again
                lease = await move
                if not is_waiting:
                    return lease
                self._freed()
                return None

    async def _close(self, lease: Lease) -> bool:
        """Finish a CLOSING lease; one that only a hub restart interrupted returns to the queue."""
        try:
            await self._containers.remove(self._container_name(lease), STOP_GRACE_SECONDS)
            if lease.cause is Cause.INTERRUPTED and lease.gpu_count:
                await self._in_ledger(self._ledger.requeue, lease)
            else:
                await self._in_ledger(
                    self._ledger.move, lease, LeaseState.CLOSED, now=self._clock()
                )
        except StaleLease:
            return True  # only CLOSED follows CLOSING: another task closed it
        except WorkbenchError as error:
            log.warning("Still closing %s state=closing reason=%s", log_fields(lease), error)
            return False
        log.info("Closed %s cause=%s", log_fields(lease), lease.cause)
        self._freed()
        self.on_closed(lease)
        return True

    def _container_name(self, lease: Lease) -> str:
        return names.container_name(self._settings.instance, lease)


def log_fields(lease: Lease) -> str:
    """Return the fields of ``lease`` for a log line."""
    gpus = ",".join(lease.gpu_uuids) or "none"
    return f"lease={lease.id} user={lease.user} server={lease.server!r} gpus={gpus}"
