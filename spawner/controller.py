"""Leases in motion: acquire, launch, release, reconcile.

The only place that joins ledger, agent and Docker. Unknown never frees and never kills: a lease is closed on proof of
absence only, and nothing is acquired before the first reconcile.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

from spawner.catalog import Catalog
from spawner.containers import Containers, ContainerStatus
from spawner.ledger import Ledger
from spawner.model import (
    Cause,
    Gpu,
    GpuHealth,
    Granted,
    Lease,
    LeaseState,
    Quota,
    Reason,
    Refused,
    Request,
    StaleLease,
    Unknown,
    WorkbenchError,
)
from spawner.policy import container as policy
from spawner.policy import names
from spawner.policy.allocate import allocate
from spawner.settings import Settings

log = logging.getLogger("workbench.controller")

RECONCILE_RETRY_SECONDS = 1.0
CLOSING_RETRY_SECONDS = 5.0
READY_TIMEOUT_SECONDS = 10.0
STOP_GRACE_SECONDS = 10

Report = Callable[[int, str], None]
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Inventory(Protocol):
    """Who knows the host's GPUs; raises Unknown."""

    async def inventory(self) -> tuple[Gpu, ...]:
        """Return the GPUs there are."""


@dataclass(frozen=True)
class GpuOffer:
    """One GPU as the spawn form shows it."""

    gpu: Gpu
    holder: str | None
    since: float | None

    @property
    def is_free(self) -> bool:
        """True when a request could be given this GPU now."""
        return self.holder is None and self.gpu.health is GpuHealth.OK


@dataclass(frozen=True)
class Offer:
    """What one user could ask for now; ``error`` says why the GPUs are unknown."""

    gpus: tuple[GpuOffer, ...]
    held_by_user: int
    quota: Quota
    error: str | None


class Controller:
    """The lease protocol over one ledger, one agent and one Docker Engine."""

    def __init__(
        self,
        ledger: Ledger,
        gpus: Inventory,
        containers: Containers,
        catalog: Catalog,
        settings: Settings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Join the parts; nothing is asked or written before ``run``."""
        self._ledger = ledger
        self._gpus = gpus
        self._containers = containers
        self._catalog = catalog
        self._settings = settings
        self._clock = clock
        self._ready = asyncio.Event()
        # one thread: ledger calls run in the order in which they were made
        self._ledger_thread = ThreadPoolExecutor(1, "ledger")

    @property
    def is_ready(self) -> bool:
        """True once the first reconcile has finished."""
        return self._ready.is_set()

    async def run(self) -> None:
        """Reconcile until that succeeds, then finish closing leases for as long as the hub lives."""
        while not self.is_ready:
            try:
                await self.reconcile()
            except Unknown as error:
                log.warning("No spawn is admitted yet: %s", error)
                await asyncio.sleep(RECONCILE_RETRY_SECONDS)
        while True:
            await asyncio.sleep(CLOSING_RETRY_SECONDS)
            for lease in await self._in_ledger(self._ledger.live_leases):
                if lease.state is LeaseState.CLOSING:
                    await self._close(lease)

    async def reconcile(self) -> None:
        """Bring the ledger to what Docker shows, then admit spawns; raises Unknown and admits none.

        A running container without a lease is adopted. A lease whose start died with the hub, or whose container is
        gone, is closed.
        """
        found = {
            c.labels.get(policy.LABEL_LEASE, ""): c for c in await self._containers.list_servers()
        }
        leases = await self._in_ledger(self._ledger.live_leases)
        for lease_id, status in found.items():
            if all(lease.id != lease_id for lease in leases):
                await self._meet_stranger(lease_id, status)
        for lease in leases:
            if lease.state is LeaseState.RUNNING and await self.look(lease.id) is not None:
                continue
            cause = Cause.FAILED if lease.state is LeaseState.GRANTED else Cause.LOST
            await self.release(lease.id, cause)
        self._ready.set()
        log.info("Reconciled: %d containers, %d live leases", len(found), len(leases))

    async def acquire(self, request: Request) -> Granted | Refused:
        """Claim what ``request`` asks for, in one transaction, or say why not."""
        try:
            await asyncio.wait_for(self._ready.wait(), READY_TIMEOUT_SECONDS)
        except TimeoutError:
            return Refused(
                Reason.NOT_READY,
                "The hub cannot see Docker yet, so no server can start: try again in a minute.",
            )
        # the hub asks only for a server that it believes stopped: what is left of the last one goes first
        await self.release_server(request.user, request.server, Cause.LOST)
        gpus: tuple[Gpu, ...] = ()
        if request.options.gpus:
            try:
                gpus = await self._gpus.inventory()
            except Unknown as error:
                return Refused(
                    Reason.NOT_READY,
                    f"No GPU can be given now: {error} Start with 0 GPUs, or tell an admin.",
                )
        now = self._clock()
        decide = functools.partial(
            allocate, request, gpus=gpus, quota=self._settings.quota, now=now
        )
        answer = await self._in_ledger(
            self._ledger.claim, request, lambda leases: decide(leases=leases), now=now
        )
        if isinstance(answer, Granted):
            log.info("Granted %s", _describe(answer.lease))
        return answer

    async def launch(self, lease: Lease, environment: Mapping[str, str], report: Report) -> str:
        """Bring up the lease's container and return the host name at which it answers.

        ``report(percent, sentence)`` is called before each step. Raises LaunchError or Unknown.
        """
        instance = self._settings.instance
        image_id = await self._containers.image_id(self._catalog.releases[lease.release].image)
        account = await self._in_ledger(self._ledger.account_of, lease.user)
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
        """Record that the lease's server answered."""
        lease = await self._in_ledger(self._ledger.lease, lease_id)
        if lease is not None and lease.state is LeaseState.GRANTED:
            await self._in_ledger(self._ledger.move, lease, LeaseState.RUNNING, now=self._clock())

    async def release(self, lease_id: str, cause: Cause) -> bool:
        """Close the lease: written first, then the container is removed, then the GPUs are freed.

        Returns False when Docker could not prove the container's absence; ``run`` goes on trying.
        """
        lease = await self._in_ledger(self._ledger.lease, lease_id)
        if lease is None or lease.state is LeaseState.CLOSED:
            return True
        if lease.state is not LeaseState.CLOSING:
            try:
                lease = await self._in_ledger(
                    self._ledger.move, lease, LeaseState.CLOSING, now=self._clock(), cause=cause
                )
            except StaleLease:
                return await self.release(lease_id, cause)
        return await self._close(lease)

    async def release_server(self, user: str, server: str, cause: Cause) -> bool:
        """Close whatever live lease this server has; True when none is left."""
        for lease in await self._in_ledger(self._ledger.live_leases):
            if (lease.user, lease.server) == (user, server):
                return await self.release(lease.id, cause)
        return True

    async def look(self, lease_id: str) -> ContainerStatus | None:
        """Return the lease's container as Docker shows it, None on proof of absence; raises Unknown."""
        lease = await self._in_ledger(self._ledger.lease, lease_id)
        if lease is None or lease.state is LeaseState.CLOSED:
            return None
        return await self._containers.look(self._container_name(lease))

    async def log_tail(self, lease: Lease) -> str:
        """Return the last lines the lease's container wrote; raises Unknown."""
        return await self._containers.log_tail(self._container_name(lease))

    async def offer(self, user: str) -> Offer:
        """Return what ``user`` could ask for now."""
        leases = await self._in_ledger(self._ledger.live_leases)
        holders = {uuid: lease for lease in leases for uuid in lease.gpu_uuids}
        error = None
        gpus: tuple[Gpu, ...] = ()
        try:
            gpus = await self._gpus.inventory()
        except Unknown as unknown:
            error = str(unknown)
        offers = []
        for gpu in sorted(gpus, key=lambda gpu: gpu.index):
            lease = holders.get(gpu.uuid)
            offers.append(
                GpuOffer(gpu, lease.user if lease else None, lease.granted_at if lease else None)
            )
        return Offer(
            gpus=tuple(offers),
            held_by_user=sum(len(lease.gpu_uuids) for lease in leases if lease.user == user),
            quota=self._settings.quota,
            error=error,
        )

    async def _close(self, lease: Lease) -> bool:
        try:
            await self._containers.remove(self._container_name(lease), STOP_GRACE_SECONDS)
            await self._in_ledger(self._ledger.move, lease, LeaseState.CLOSED, now=self._clock())
        except StaleLease:
            return True  # only CLOSED follows CLOSING: someone else saw it gone
        except WorkbenchError as error:
            log.warning("Still closing %s: %s", _describe(lease), error)
            return False
        log.info("Closed %s cause=%s", _describe(lease), lease.cause)
        return True

    async def _meet_stranger(self, lease_id: str, status: ContainerStatus) -> None:
        """Adopt a running container whose lease the ledger forgot; leave any other for the admin to see."""
        labels = status.labels
        known = await self._in_ledger(self._ledger.lease, lease_id)
        if known is not None and not status.is_running:
            await self._containers.remove(status.name, STOP_GRACE_SECONDS)
            return
        if known is None and status.is_running and labels.get(policy.LABEL_UID, "").isdigit():
            lease = Lease(
                id=lease_id,
                epoch=1,
                user=labels.get(policy.LABEL_USER, ""),
                server=labels.get(policy.LABEL_SERVER, ""),
                uid=int(labels[policy.LABEL_UID]),
                release=labels.get(policy.LABEL_RELEASE, ""),
                gpu_uuids=tuple(filter(None, labels.get(policy.LABEL_GPUS, "").split(","))),
                state=LeaseState.RUNNING,
                granted_at=self._clock(),
            )
            if await self._in_ledger(self._ledger.adopt, lease):
                log.warning("Adopted %s", _describe(lease))
                return
        log.error("Container %s has no live lease; it was left alone: look at it", status.name)

    def _container_name(self, lease: Lease) -> str:
        return names.container_name(self._settings.instance, lease)

    def _in_ledger(
        self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> asyncio.Future[_T]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._ledger_thread, functools.partial(call, *args, **kwargs))


def _describe(lease: Lease) -> str:
    gpus = ",".join(lease.gpu_uuids) or "none"
    return f"lease={lease.id} user={lease.user} server={lease.server!r} gpus={gpus}"
