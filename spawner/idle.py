"""Watches over leases whose GPUs do nothing, and says which of them are over.

Everything is kept in memory: a hub that starts has seen nothing yet, so no time without a hub counts as idle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from spawner.model import Lease, LeaseState, Unknown
from spawner.policy.idle import (
    IdleRules,
    Processes,
    Signs,
    IdleRecord,
    ActivityReport,
    should_release,
    seconds_left,
    update_record,
)
from spawner.sampling import GpuSnapshot

Leases = Callable[[], Awaitable[Sequence[Lease]]]
"""Returns the live leases; raises Unknown."""


class IdleTracker:
    """What was seen of every lease with GPUs that runs, by lease id."""

    def __init__(self, rules: IdleRules, live: Leases, period_seconds: float) -> None:
        """Know nothing yet; ``on_idle`` is then called with each lease that is to be ended."""
        self._rules = rules
        self._live = live
        self._period_seconds = period_seconds
        self._words: dict[str, ActivityReport] = {}
        self._watches: dict[str, IdleRecord] = {}
        self.on_idle: Callable[[Lease], None] = lambda _: None

    async def look(self, seen: GpuSnapshot) -> None:
        """Take in one more look at the GPUs."""
        if not self._rules.minutes:
            return
        try:
            leases = await self._live()
        except Unknown:
            self._watches = {
                lease_id: replace(known, known_at=None) for lease_id, known in self._watches.items()
            }
            return
        watched = {lease.id: lease for lease in leases if _is_watched(lease)}
        self._words = {id_: word for id_, word in self._words.items() if id_ in watched}
        self._watches = {
            lease.id: update_record(
                self._watches.get(lease.id, IdleRecord()),
                _read_signs(lease, seen, self._words.get(lease.id)),
                self._rules,
                self._period_seconds,
            )
            for lease in watched.values()
        }
        for lease_id, lease in watched.items():
            if should_release(self._watches[lease_id], self._rules, seen.at):
                self.on_idle(lease)

    def hear(self, lease_id: str, report: ActivityReport) -> None:
        """Take in what the server of a lease says of itself."""
        self._words[lease_id] = word

    def stay(self, lease_id: str) -> None:
        """Begin anew: its user is there."""
        self._watches[lease_id] = IdleRecord()

    def seconds_left(self, lease_id: str) -> float | None:
        """Return in how many seconds a lease ends for doing nothing, None where it does not, or not soon."""
        known = self._watches.get(lease_id)
        return None if known is None else seconds_left(known, self._rules)


def _is_watched(lease: Lease) -> bool:
    return lease.state is LeaseState.RUNNING and bool(lease.gpu_uuids)


def _read_signs(lease: Lease, seen: GpuSnapshot, report: ActivityReport | None) -> Signs:
    samples = [seen.samples.get(uuid) for uuid in lease.gpu_uuids]
    processes: set[tuple[str, int, int | None]] = set()
    for sample in samples:
        if sample is not None:
            processes |= {(sample.uuid, p.pid, p.memory_used_bytes) for p in sample.processes}
    known: Processes | None = None if None in samples else frozenset(processes)
    return Signs(
        at=seen.at,
        utilization_percent=tuple(
            None if sample is None else sample.utilization_percent for sample in samples
        ),
        processes=known,
        report=report,
    )
