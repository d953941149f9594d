"""Controller: acquires, reconciles and ends leases over ledger, gpu-agent and Docker.

It alone joins the three. An unknown state never frees a GPU and never kills a container. No lease is acquired before
the first reconcile.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Sequence, Set

from spawner.catalog import Catalog
from spawner.clock import Clock
from spawner.containers import Containers
from spawner.controller.admin_actions import AdminActions
from spawner.controller.end_watcher import EndWatcher
from spawner.controller.health import HealthMonitor
from spawner.controller.lease_lifecycle import LeaseLifecycle, log_fields
from spawner.controller.queue import Inventory, LeaseQueue, PositionReport, QueueEntry
from spawner.controller.reconcile import Reconciliation
from spawner.controller.user_homes import UserHomes
from spawner.ledger import Ledger
from spawner.model import (
    ACTIVE_STATES,
    Cause,
    Gpu,
    Granted,
    Lease,
    LeaseState,
    QueuePosition,
    Quota,
    Reason,
    Refused,
    Request,
    Unknown,
    Waiting,
)
from spawner.policy.admission import admit
from spawner.policy.compatibility import Stack, refuse_incompatible
from spawner.serial_executor import SerialExecutor
from spawner.settings import Settings

log = logging.getLogger(__name__)

RECONCILE_RETRY_SECONDS = 1.0
TICK_SECONDS = 5.0
READY_TIMEOUT_SECONDS = 5.0  # below the 10 s after which JupyterHub calls a spawn pending


class Controller(LeaseLifecycle):
    """The lease protocol over one ledger, one agent and one Docker Engine."""

    def __init__(
        self,
        ledger: Ledger,
        gpus: Inventory,
        containers: Containers,
        catalog: Catalog,
        settings: Settings,
        clock: Clock | None = None,
    ) -> None:
        """Take the dependencies; no request or write happens before ``run``."""
        clock = Clock(ledger) if clock is None else clock
        self._gpus = gpus
        in_ledger = SerialExecutor("ledger")
        self._queue = LeaseQueue(ledger, in_ledger, gpus, clock)
        super().__init__(
            ledger, containers, catalog, settings, clock, in_ledger, self._queue.advance_soon
        )
        self._ends = EndWatcher(containers, ledger, self)
        self.health = HealthMonitor(ledger, in_ledger, gpus, clock, self._queue.advance_soon)
        self.admin_actions = AdminActions(
            ledger, in_ledger, gpus, clock, self, self._queue.advance_soon
        )
        self.homes = UserHomes(ledger, in_ledger, containers, clock, settings.instance)
        self._ready = asyncio.Event()
        self._ready_at = 0.0
        # ids of the leases whose spawn runs in this process; a spawn of an earlier hub is gone
        self._with_spawn: set[str] = set()
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._reconciliation = Reconciliation(
            ledger, in_ledger, containers, self, settings, clock, self._queue.withhold
        )

    @property
    def is_ready(self) -> bool:
        """True once the first reconcile has finished."""
        return self._ready.is_set()

    async def wait_until_ready(self) -> None:
        """Return once the first reconcile has finished and the lease clock runs."""
        await self._ready.wait()

    async def run(self) -> None:
        """Reconcile until that succeeds, then run the queue and the lease tasks until cancelled."""
        while not self.is_ready:
            try:
                await self.reconcile()
            except Unknown as error:
                log.warning("state=not_ready: no spawn is admitted yet: reason=%s", error)
                await asyncio.sleep(RECONCILE_RETRY_SECONDS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._queue.run())
            tasks.create_task(self._keep_ticking())
            tasks.create_task(self._ends.follow())
            tasks.create_task(self.health.watch())

    async def _keep_ticking(self) -> None:
        try:
            while True:
                await asyncio.sleep(TICK_SECONDS)
                try:
                    await self.run_due_tasks()
                except Unknown as error:
                    log.warning("Due lease tasks did not run: state=unknown reason=%s", error)
        finally:
            for end in self._ending.values():
                end.cancel()

    async def tick(self) -> None:
        """Run the due tasks and wait for the leases that end; raises Unknown."""
        await self.run_due_tasks()
        await asyncio.gather(*self._ending.values())

    async def run_due_tasks(self) -> None:
        """End due leases in the background and adopt unknown containers; raises Unknown."""
        await self._in_ledger(self._clock.record_heartbeat)
        now = self._clock()
        for lease in await self._in_ledger(self._ledger.live_leases):
            due = self._is_due(lease, now)
            if due is not None:
                self._start_ending(lease, due)
        await self._reconciliation.adopt_unknown_containers()

    def _start_ending(self, lease: Lease, cause: Cause) -> None:
        """End ``lease`` in a task of its own, so that a slow stop delays no other lease."""
        if lease.id not in self._ending:
            self._ending[lease.id] = asyncio.create_task(self._end(lease, cause))
            self._ending[lease.id].add_done_callback(lambda _: self._ending.pop(lease.id))

    async def _end(self, lease: Lease, cause: Cause) -> None:
        try:
            if cause is Cause.UNCLAIMED and self.has_been_opened(lease):
                await self.mark_claimed(lease.id)
            else:
                await self.release(lease.id, cause)
        except Unknown as error:
            log.warning("Not ended yet: %s state=unknown reason=%s", log_fields(lease), error)

    async def end_in_background(self, lease_id: str, cause: Cause, *, by: str, reason: str) -> None:
        """Record that the lease is closing and end its container in the background; raises Unknown."""
        lease = await self._begin_closing(lease_id, cause, by=by, reason=reason)
        if lease is not None:
            self._start_ending(lease, cause)

    def _is_due(self, lease: Lease, now: float) -> Cause | None:
        """Return why ``lease`` has to be closed now, None if it may continue."""
        if lease.state is LeaseState.CLOSING:
            return lease.cause
        if lease.ends_at is not None and now >= lease.ends_at:
            return Cause.EXPIRED
        is_nobodys = not lease.is_claimed and lease.state in ACTIVE_STATES
        if lease.granted_at is None or not is_nobodys:
            return None
        # a hub that was down may have missed the user
        since = max(lease.granted_at, self._ready_at)
        is_over = now - since >= self._settings.claim_minutes * 60.0
        return Cause.UNCLAIMED if is_over else None

    # --- spawns

    async def acquire(self, request: Request) -> Granted | Waiting | Refused:
        """Grant ``request``, add it to the queue, or refuse it with a reason.

        A repeated spawn finds the queue position, or the grant, that it had.
        """
        try:
            await asyncio.wait_for(self._ready.wait(), READY_TIMEOUT_SECONDS)
            await self._close_previous_lease(request)
            gpus = await self._inventory() if request.options.gpus else ()
            drains = await self._in_ledger(self._ledger.drains) if gpus else ()
            drained = frozenset(drain.gpu_uuid for drain in drains)
            quota, now = self._settings.quota, self._clock()
            stack = self._catalog.releases[request.options.release]
            check = functools.partial(_check, request, gpus, drained, stack, now)
            lease = await self._in_ledger(self._ledger.admit, request, check, quota=quota, now=now)
            if isinstance(lease, Refused):
                return lease
            # a repeated spawn that keeps its position changes nothing in the queue
            is_back = (
                lease.id not in self._with_spawn and self._queue.position_of(lease.id) is not None
            )
            self._with_spawn.add(lease.id)
            if lease.state is not LeaseState.WAITING:
                log.info("Granted %s", log_fields(lease))
                return Granted(lease)
            return await self._enqueue(lease, is_back=is_back)
        except TimeoutError:
            return Refused(
                Reason.NOT_READY,
                "The hub cannot see Docker yet, so no server can start: try again in a minute.",
            )
        except Unknown as error:
            return Refused(
                Reason.NOT_READY,
                f"No server can start now: {str(error).rstrip('. ')}; try again in a minute, or contact an admin.",
            )

    async def _enqueue(self, lease: Lease, *, is_back: bool) -> Granted | Waiting | Refused:
        try:
            if not is_back:
                await self._queue.advance()
            return _as_answer(await self._in_ledger(self._ledger.lease, lease.id))
        except Unknown:
            return Waiting(lease)  # its position is recorded, and ``run`` retries

    async def _inventory(self) -> Sequence[Gpu]:
        try:
            return await self._gpus.last_inventory()
        except Unknown as error:
            raise Unknown(f"{str(error).rstrip('. ')} (a server with 0 GPUs can start).") from error

    async def _close_previous_lease(self, request: Request) -> None:
        """Close the server's previous lease: the hub requests only a server that it believes stopped."""
        lease = await self.lease_of(request.user, request.server)
        if lease is None or lease.state is LeaseState.WAITING:
            return
        account = await self._in_ledger(
            self._ledger.get_or_create_account, request.user, request.identity
        )
        is_unattended = lease.uid == account.uid and lease.id not in self._with_spawn
        # granted while no spawn waited for it: this may be the spawn that takes it
        if is_unattended and lease.state is LeaseState.GRANTED:
            return
        cause = Cause.USER
        if (
            is_unattended
            and lease.state is LeaseState.LOST
            and await self.inspect(lease.id) is None
        ):
            # its GPU failed before a spawn took it, so the user keeps the queue position
            cause = Cause.INTERRUPTED
        await self.release(lease.id, cause)

    async def wait_for_grant(self, lease_id: str, report: PositionReport) -> Lease | None:
        """Wait until the lease is granted and return it, None if it was closed instead.

        ``report`` is called with every relevant change of its queue position.
        """
        self._with_spawn.add(lease_id)
        return await self._queue.wait_for_grant(lease_id, report)

    async def give_up(self, user: str, server: str) -> bool:
        """Take the server out of the queue, or release a grant that came just now; False as ``release``."""
        return await self.release_server(user, server, Cause.USER)

    def position_of(self, lease_id: str) -> QueuePosition | None:
        """Return the queue position of the lease, None if it does not wait."""
        return self._queue.position_of(lease_id)

    def queue_of(self, lease_id: str) -> Sequence[QueueEntry]:
        """Return the queue of the lease's kind of GPU, in order; empty if the lease does not wait."""
        return self._queue.queue_of(lease_id)

    def queue(self) -> tuple[QueueEntry, ...]:
        """Return all waiting leases, in order."""
        return self._queue.entries()

    async def leases_without_spawn(self) -> tuple[Lease, ...]:
        """Return the leases whose spawn ended with an earlier hub, in the order in which to repeat them."""
        await self._queue.advance()
        leases = await self._in_ledger(self._ledger.live_leases)
        order = {entry.lease.id: entry.place.position for entry in self.queue()}
        lost = [
            lease
            for lease in leases
            if lease.state in (LeaseState.WAITING, LeaseState.GRANTED)
            and lease.id not in self._with_spawn
        ]
        return tuple(sorted(lost, key=lambda lease: order.get(lease.id, 0)))

    async def reconcile(self) -> None:
        """Make the ledger match Docker, then admit spawns; raises Unknown and then admits none."""
        await self._in_ledger(self._clock.start)
        await self._reconciliation.reconcile()
        # a GPU that failed while the hub was down must not be granted
        with contextlib.suppress(Unknown):
            await self.health.check()
        self._ready_at = self._clock()
        self._ready.set()
        self._queue.advance_soon()


def _check(
    request: Request,
    gpus: Sequence[Gpu],
    drained: Set[str],
    stack: Stack,
    now: float,
    leases: Sequence[Lease],
    quota: Quota,
    held: float,
) -> Refused | None:
    misfit = refuse_incompatible(request.options, stack, gpus)
    return misfit or admit(
        request, gpus=gpus, leases=leases, quota=quota, held=held, now=now, drained=drained
    )


def _as_answer(lease: Lease | None) -> Granted | Waiting | Refused:
    if lease is not None and lease.state is LeaseState.WAITING:
        return Waiting(lease)
    if lease is not None and lease.state in (LeaseState.LOST, *ACTIVE_STATES):
        return Granted(lease)  # the launch itself reports a GPU that failed already
    return Refused(
        Reason.GIVEN_UP, "Your server left the queue before its turn: start your server again."
    )
