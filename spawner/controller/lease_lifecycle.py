"""One lease's life: its container is brought up, answers, is looked at, and goes.

Unknown never frees and never kills: a lease is closed on proof of absence only, and that it is closing is written
before anyone looks.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence

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
from spawner.serial_executor import SerialExecutor
from spawner.policy import container as policy
from spawner.policy import names
from spawner.policy.quota_check import extend_lease
from spawner.settings import Settings

log = logging.getLogger("workbench.controller")

STOP_GRACE_SECONDS = 10

Report = Callable[[int, str], None]
"""(percent that lies before the step, its sentence)."""


class LeaseLifecycle:
    """What happens to leases that are granted, over one ledger and one Docker Engine."""

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
        """Join the parts; ``freed`` is called when a GPU or a place in line became free."""
        self._ledger = ledger
        self._containers = containers
        self._catalog = catalog
        self._settings = settings
        self._clock = clock
        self._in_ledger = in_ledger
        self._freed = freed
        self.on_closed: Callable[[Lease], None] = lambda _: None
        self.has_been_opened: Callable[[Lease], bool] = lambda _: False
        """Called with each lease whose container was seen gone; the hub sets it."""

    async def launch(self, lease: Lease, environment: Mapping[str, str], report: Report) -> str:
        """Bring up the lease's container and return the host name at which it answers.

        ``report(percent, sentence)`` is called before each step. Raises LaunchError or Unknown.
        """
        instance = self._settings.instance
        image_id = await self._containers.image_id(self._catalog.releases[lease.release].image)
        account = await self._in_ledger(self._ledger.account, lease.uid)
        if account is None:
            raise LaunchError("Your account is not in the ledger: tell an admin.")
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
        """Record that the lease's server answered; raises LaunchError where the lease has ended meanwhile."""
        while True:
            lease = await self._in_ledger(self._ledger.lease, lease_id)
            if lease is None or lease.state not in ACTIVE_STATES:
                raise LaunchError(
                    "Your lease ended while your server was starting: start it again."
                )
            if lease.state is LeaseState.RUNNING:
                return
            with contextlib.suppress(StaleLease):  # it is read again
                await self._in_ledger(
                    self._ledger.move, lease, LeaseState.RUNNING, now=self._clock()
                )

    async def mark_claimed(self, lease_id: str) -> None:
        """Record that the user has been seen on the server whose turn came while they were away."""
        lease = await self._in_ledger(self._ledger.lease, lease_id)
        if lease is not None and lease.state is LeaseState.RUNNING and not lease.is_claimed:
            # changed meanwhile: seen again soon, or over
            with contextlib.suppress(StaleLease):
                await self._in_ledger(self._ledger.mark_claimed, lease)

    async def extend(self, owner: Owner, server: str, hours: float) -> Lease | Refused:
        """Let the lease of the server of ``owner`` end ``hours`` later, or say why not."""
        now, wish = self._clock(), (owner.name, server)

        def decide(leases: Sequence[Lease], quota: Quota, held: float) -> Lease | Refused:
            return extend_lease(wish, hours, leases=leases, quota=quota, now=now, held=held)

        return await self._in_ledger(
            self._ledger.extend, decide, owner, quota=self._settings.quota, now=now
        )

    async def lease_of(self, user: str, server: str) -> Lease | None:
        """Return the live lease of the server, waiting ones included."""
        return await self._in_ledger(self._ledger.live_lease, user, server)

    async def release(
        self, lease_id: str, cause: Cause, *, by: str = HUB, reason: str | None = None
    ) -> bool:
        """Close the lease: written first, then the container is removed, then the GPUs are freed.

        One that waits just leaves the line. The trail keeps who did it (``by``) and why. Returns False when
        Docker could not prove the container's absence; ``run`` goes on trying.
        """
        lease = await self._begin_closing(lease_id, cause, by=by, reason=reason)
        return True if lease is None else await self._close(lease)

    async def release_server(self, user: str, server: str, cause: Cause, *, by: str = HUB) -> bool:
        """Close whatever live lease this server has; True when none is left."""
        lease = await self.lease_of(user, server)
        return True if lease is None else await self.release(lease.id, cause, by=by)

    async def inspect(self, lease_id: str) -> ContainerStatus | None:
        """Return the lease's container as Docker shows it, None on proof of absence; raises Unknown."""
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
        """Write that the lease is closing and return it; None where nothing is left to close."""
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
            with contextlib.suppress(StaleLease):  # it is read again
                lease = await move
                if not is_waiting:
                    return lease
                self._freed()
                return None

    async def _close(self, lease: Lease) -> bool:
        """Finish a CLOSING lease; one that only the hub's own end interrupted goes back into the line."""
        try:
            await self._containers.remove(self._container_name(lease), STOP_GRACE_SECONDS)
            if lease.cause is Cause.INTERRUPTED and lease.gpu_count:
                await self._in_ledger(self._ledger.requeue, lease)
            else:
                await self._in_ledger(
                    self._ledger.move, lease, LeaseState.CLOSED, now=self._clock()
                )
        except StaleLease:
            return True  # only CLOSED follows CLOSING: someone else saw it gone
        except WorkbenchError as error:
            log.warning("Still closing %s: %s", log_fields(lease), error)
            return False
        log.info("Closed %s cause=%s", log_fields(lease), lease.cause)
        self._freed()
        self.on_closed(lease)
        return True

    def _container_name(self, lease: Lease) -> str:
        return names.container_name(self._settings.instance, lease)


def log_fields(lease: Lease) -> str:
    """Return what one line of the log says of ``lease``."""
    gpus = ",".join(lease.gpu_uuids) or "none"
    return f"lease={lease.id} user={lease.user} server={lease.server!r} gpus={gpus}"
