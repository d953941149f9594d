"""The waiting room in motion: grants to who is next, and tells those behind where they stand.

Nobody polls: one advance serves everyone, and wakes only those whose place changed. The rule itself is
``policy.line``.
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
from spawner.serial_executor import SerialExecutor
from spawner.policy.queue import QueuePlan, plan_queue

log = logging.getLogger("workbench.line")

TICK_SECONDS = 5.0
RETRY_SECONDS = 1.0
WORTH_TELLING_SECONDS = 60.0
"""An estimate that moved less is not told again."""

PositionReport = Callable[[QueuePosition], None]


class Inventory(Protocol):
    """Who knows the host's GPUs; raises Unknown."""

    async def inventory(self) -> tuple[Gpu, ...]:
        """Return the GPUs there are now: what is granted is of these."""

    async def last_inventory(self) -> tuple[Gpu, ...]:
        """Return the GPUs there were a moment ago, without waiting for the answer to a new question."""


@dataclass(frozen=True)
class QueueEntry:
    """One who waits, as the pages show them."""

    lease: Lease
    place: QueuePosition


_NOBODY = QueuePlan({}, {}, {})


class LeaseQueue:
    """Everyone who waits on one ledger for the GPUs of one host."""

    def __init__(
        self, ledger: Ledger, in_ledger: SerialExecutor, gpus: Inventory, clock: Callable[[], float]
    ) -> None:
        """Join the parts; nothing is asked or written yet."""
        self._ledger = ledger
        self._in_ledger = in_ledger
        self._gpus = gpus
        self._clock = clock
        self._queues: Mapping[str | None, Sequence[QueueEntry]] = {}
        self._entries: Mapping[str, QueueEntry] = {}
        self._waiters: dict[str, _Waiter] = {}
        self._withheld: frozenset[str] = frozenset()
        self._moved = asyncio.Event()
        self._under_way = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None

    def withhold(self, gpu_uuids: Collection[str]) -> None:
        """Give these GPUs to nobody, in place of those withheld before."""
        self._withheld = frozenset(gpu_uuids)

    def advance_soon(self) -> None:
        """Let ``run`` advance soon: a GPU or a place became free."""
        self._moved.set()

    async def run(self) -> None:
        """Advance whenever the line may move, and now and then, for GPUs come and go and time passes."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._moved.wait()
            self._moved.clear()
            try:
                await self.advance()
            except Unknown as error:
                log.warning("The line cannot move: %s", error)
                self._moved.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def advance(self) -> None:
        """Grant what is free to who is next; raises Unknown when the ledger does not answer.

        Calls made while one is under way share the next.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._advance())
        await asyncio.shield(self._next)

    def get_place(self, lease_id: str) -> QueuePosition | None:
        """Return where the lease stands, None when it does not wait any more."""
        entry = self._entries.get(lease_id)
        return None if entry is None else entry.place

    def queue_of(self, lease_id: str) -> Sequence[QueueEntry]:
        """Return all who want the same kind of GPU as the lease, in order; nobody when it does not wait any more."""
        entry = self._entries.get(lease_id)
        return () if entry is None else self._queues[entry.lease.mig_profile]

    async def wait_for_grant(self, lease_id: str, report: PositionReport) -> Lease | None:
        """Return the lease once it is granted, None once it is closed; ``report`` every change of its place."""
        turn = self._waiters[lease_id] = _Waiter()
        try:
            while True:
                turn.changed.clear()
                place = self.get_place(lease_id)
                if place is None:
                    lease = await self._read_live(lease_id)
                    if lease is None or lease.state is not LeaseState.WAITING:
                        return lease
                elif turn.has_changed(place):
                    turn.told = place
                    report(place)
                await turn.changed.wait()
        finally:
            self._waiters.pop(lease_id, None)

    def entries(self) -> tuple[QueueEntry, ...]:
        """Return everyone who waits, each kind of GPU in order, as of the last advance."""
        return tuple(self._entries.values())

    async def _advance(self) -> None:
        async with self._under_way:
            self._next = None  # whoever calls from here on saw something that this one may not see
            try:
                gpus = await self._gpus.inventory()
            except Unknown:
                gpus = ()  # nobody can be granted anything; the order stands
            now = self._clock()
            waiting: Sequence[Lease] = ()
            planned = _NOBODY

            def plan(
                in_line: Sequence[Lease],
                holding: Sequence[Lease],
                use: Mapping[int, float],
                out: Set[str],
            ) -> Mapping[str, tuple[str, ...]]:
                nonlocal waiting, planned
                unusable = self._withheld | out
                usable = [gpu for gpu in gpus if gpu.uuid not in unusable]
                waiting = in_line
                planned = plan_queue(in_line, leases=holding, gpus=usable, recent_gpu_hours=use, now=now)
                return planned.grants

            granted = await self._in_ledger(self._ledger.advance, plan, now=now)
            self._queues = _enter(waiting, planned)
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
        for lease_id, turn in self._waiters.items():
            place = self.get_place(lease_id)
            if place is None or turn.has_changed(place):
                turn.changed.set()

    async def _read_live(self, lease_id: str) -> Lease | None:
        """Return the lease unless it is over; whose lease cannot be read goes on waiting."""
        while True:
            try:
                lease = await self._in_ledger(self._ledger.lease, lease_id)
            except Unknown as error:
                log.warning("The turn of %s is not known yet: %s", lease_id, error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            live = (LeaseState.WAITING, LeaseState.LOST, *ACTIVE_STATES)
            is_live = lease is not None and lease.state in live
            return lease if is_live else None


def _enter(waiting: Sequence[Lease], plan: QueuePlan) -> dict[str | None, tuple[QueueEntry, ...]]:
    """Return everyone who goes on waiting, by the kind they want, made once for however many look."""
    leases = {lease.id: lease for lease in waiting}
    return {
        kind: tuple(
            QueueEntry(leases[id_], QueuePosition(id_, position, len(queue), plan.starts_at.get(id_)))
            for position, id_ in enumerate(queue, 1)
        )
        for kind, queue in plan.queues.items()
    }


class _Waiter:
    """One who waits for the line to move, and what they were told last."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.told: QueuePosition | None = None

    def has_changed(self, place: QueuePosition) -> bool:
        told = self.told
        if told is None or told.position != place.position:
            return True
        if told.starts_at is None or place.starts_at is None:
            return told.starts_at is not place.starts_at
        return abs(told.starts_at - place.starts_at) >= WORTH_TELLING_SECONDS
