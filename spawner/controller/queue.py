"""Queue: grants free GPUs to the next leases and reports positions to the waiting spawns.

No spawn polls: one advance serves all of them and wakes only those whose position changed. ``policy.queue`` has the
rule itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from spawner.ledger import Ledger
from spawner.model import ACTIVE_STATES, Gpu, Lease, LeaseState, QueuePosition, Unknown
from spawner.policy.queue import QueuePlan, plan_queue
from spawner.serial_executor import SerialExecutor

log = logging.getLogger(__name__)

TICK_SECONDS = 5.0
RETRY_SECONDS = 1.0
MIN_REPORTED_CHANGE_SECONDS = 60.0
"""A smaller change of an estimate is not reported."""

PositionReport = Callable[[QueuePosition], None]


class Inventory(Protocol):
    """Lists the GPUs of the host; raises Unknown."""

    async def inventory(self) -> tuple[Gpu, ...]:
        """Return the GPUs of this moment; only these are granted."""

    async def last_inventory(self) -> tuple[Gpu, ...]:
        """Return the GPUs of the latest answer, without a new request."""


@dataclass(frozen=True)
class QueueEntry:
    """One waiting lease and its position, as pages show it."""

    lease: Lease
    place: QueuePosition


_EMPTY_PLAN = QueuePlan({}, {}, {})


class LeaseQueue:
    """The waiting leases of one ledger for the GPUs of one host."""

    def __init__(
        self, ledger: Ledger, in_ledger: SerialExecutor, gpus: Inventory, clock: Callable[[], float]
    ) -> None:
        """Take the dependencies; no request or write happens yet."""
        self._ledger = ledger
        self._in_ledger = in_ledger
        self._gpus = gpus
        self._clock = clock
        self._queues: Mapping[str | None, Sequence[QueueEntry]] = {}
        self._entries: Mapping[str, QueueEntry] = {}
        self._waiters: dict[str, _Waiter] = {}
        self._withheld: frozenset[str] = frozenset()
        self._may_advance = asyncio.Event()
        self._advancing = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None

    def withhold(self, gpu_uuids: Collection[str]) -> None:
        """Exclude these GPUs from grants, instead of those withheld before."""
        self._withheld = frozenset(gpu_uuids)

    def advance_soon(self) -> None:
        """Let ``run`` advance soon: a GPU or a position became free."""
        self._may_advance.set()

    async def run(self) -> None:
        """Advance after each change, and regularly, because GPUs come and go and time passes."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._may_advance.wait()
            self._may_advance.clear()
            try:
                await self.advance()
            except Unknown as error:
                log.warning("The queue cannot advance: state=unknown reason=%s", error)
                self._may_advance.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def advance(self) -> None:
        """Grant free GPUs to the next leases; raises Unknown when the ledger does not answer.

        Calls made during an advance share the next one.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._advance())
        await asyncio.shield(self._next)

    def position_of(self, lease_id: str) -> QueuePosition | None:
        """Return the position of the lease, None if it does not wait any more."""
        entry = self._entries.get(lease_id)
        return None if entry is None else entry.place

    def queue_of(self, lease_id: str) -> Sequence[QueueEntry]:
        """Return the queue of the lease's kind of GPU, in order; empty if the lease does not wait any more."""
        entry = self._entries.get(lease_id)
        return () if entry is None else self._queues[entry.lease.mig_profile]

    async def wait_for_grant(self, lease_id: str, report: PositionReport) -> Lease | None:
        """Return the lease once it is granted, None once it is closed; ``report`` its changed positions."""
        waiter = self._waiters[lease_id] = _Waiter()
        try:
            while True:
                waiter.changed.clear()
                place = self.position_of(lease_id)
                if place is None:
                    lease = await self._read_live(lease_id)
                    if lease is None or lease.state is not LeaseState.WAITING:
                        return lease
                elif waiter.has_changed(place):
                    waiter.reported = place
                    report(place)
                await waiter.changed.wait()
        finally:
            self._waiters.pop(lease_id, None)

    def entries(self) -> tuple[QueueEntry, ...]:
        """Return all waiting leases as of the last advance, each kind of GPU in order."""
        return tuple(self._entries.values())

    async def _advance(self) -> None:
        async with self._advancing:
            self._next = None  # a later caller may know of a change that this advance does not see
            try:
                gpus = await self._gpus.inventory()
            except Unknown:
                gpus = ()  # no grant is possible; the order is still planned
            now = self._clock()
            waiting: Sequence[Lease] = ()
            planned = _EMPTY_PLAN

            def plan(
                queued: Sequence[Lease],
                holding: Sequence[Lease],
                use: Mapping[int, float],
                out: Set[str],
            ) -> Mapping[str, tuple[str, ...]]:
                nonlocal waiting, planned
                unusable = self._withheld | out
                usable = [gpu for gpu in gpus if gpu.uuid not in unusable]
                waiting = queued
                planned = plan_queue(
                    queued, leases=holding, gpus=usable, recent_gpu_hours=use, now=now
                )
                return planned.grants

            granted = await self._in_ledger(self._ledger.advance, plan, now=now)
            self._queues = _build_entries(waiting, planned)
            self._entries = {e.lease.id: e for queue in self._queues.values() for e in queue}
            self._wake_waiters()
            for lease in granted:
                log.info(
                    "Granted lease=%s user=%s server=%r gpus=%s",
                    lease.id,
                    lease.user,
                    lease.server,
                    ",".join(lease.gpu_uuids),
                )

    def _wake_waiters(self) -> None:
        for lease_id, waiter in self._waiters.items():
            place = self.position_of(lease_id)
            if place is None or waiter.has_changed(place):
                waiter.changed.set()

    async def _read_live(self, lease_id: str) -> Lease | None:
        """Return the lease unless it is over; keep trying while the ledger does not answer."""
        while True:
            try:
                lease = await self._in_ledger(self._ledger.lease, lease_id)
            except Unknown as error:
                log.warning("Lease unreadable: lease=%s state=unknown reason=%s", lease_id, error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            live = (LeaseState.WAITING, LeaseState.LOST, *ACTIVE_STATES)
            is_live = lease is not None and lease.state in live
            return lease if is_live else None


def _build_entries(
    waiting: Sequence[Lease], plan: QueuePlan
) -> dict[str | None, tuple[QueueEntry, ...]]:
    """Return the leases that keep waiting, by kind of GPU; built once for all readers."""
    leases = {lease.id: lease for lease in waiting}
    return {
        kind: tuple(
            QueueEntry(
                leases[id_], QueuePosition(id_, position, len(queue), plan.starts_at.get(id_))
            )
            for position, id_ in enumerate(queue, 1)
        )
        for kind, queue in plan.queues.items()
    }


class _Waiter:
    """One spawn that waits for its grant, and the position reported to it last."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.reported: QueuePosition | None = None

    def has_changed(self, place: QueuePosition) -> bool:
        reported = self.reported
        if reported is None or reported.position != place.position:
            return True
        if reported.starts_at is None or place.starts_at is None:
            return reported.starts_at is not place.starts_at
        return abs(reported.starts_at - place.starts_at) >= MIN_REPORTED_CHANGE_SECONDS
