"""Idle tracker: records the activity of leases and reports the idle ones.

All records are in memory. A new hub starts without records, so time without a hub never counts as idle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from spawner.model import Lease, LeaseState, Unknown
from spawner.policy.idle import (
    ActivityReport,
    IdleRecord,
    IdleRules,
    Processes,
    Signs,
    seconds_left,
    should_release,
    update_record,
)
from spawner.sampling import GpuSnapshot

ListLiveLeases = Callable[[], Awaitable[Sequence[Lease]]]
"""Returns the live leases; raises Unknown."""


class IdleTracker:
    """Idle records of all running leases with GPUs, by lease id."""

    def __init__(self, rules: IdleRules, list_live: ListLiveLeases, period_seconds: float) -> None:
        """Start without records; ``on_idle`` receives each lease to release."""
        self._rules = rules
        self._list_live = list_live
        self._period_seconds = period_seconds
        self._reports: dict[str, ActivityReport] = {}
        self._records: dict[str, IdleRecord] = {}
        self.on_idle: Callable[[Lease], None] = lambda _: None

    async def update(self, snapshot: GpuSnapshot) -> None:
        """Add one GPU snapshot to the records, and call ``on_idle`` for each lease to release."""
        if not self._rules.minutes:
            return
        try:
            leases = await self._list_live()
        except Unknown:
            self._records = {
                lease_id: replace(record, known_at=None)
                for lease_id, record in self._records.items()
            }
            return
        tracked = {lease.id: lease for lease in leases if _is_tracked(lease)}
        self._reports = {id_: report for id_, report in self._reports.items() if id_ in tracked}
        self._records = {
            lease.id: update_record(
                self._records.get(lease.id, IdleRecord()),
                _read_signs(lease, snapshot, self._reports.get(lease.id)),
                self._rules,
                self._period_seconds,
            )
            for lease in tracked.values()
        }
        for lease_id, lease in tracked.items():
            if should_release(self._records[lease_id], self._rules, snapshot.at):
                self.on_idle(lease)

    def record_activity(self, lease_id: str, report: ActivityReport) -> None:
        """Keep the latest activity report of the lease's server."""
        self._reports[lease_id] = report

    def reset(self, lease_id: str) -> None:
        """Reset the quiet time of a lease, because its user is present."""
        self._records[lease_id] = IdleRecord()

    def seconds_left(self, lease_id: str) -> float | None:
        """Return the seconds until the idle release of a lease, or None before the warning time."""
        record = self._records.get(lease_id)
        return None if record is None else seconds_left(record, self._rules)


def _is_tracked(lease: Lease) -> bool:
    return lease.state is LeaseState.RUNNING and bool(lease.gpu_uuids)


def _read_signs(lease: Lease, snapshot: GpuSnapshot, report: ActivityReport | None) -> Signs:
    samples = [snapshot.samples.get(uuid) for uuid in lease.gpu_uuids]
    processes: set[tuple[str, int, int | None]] = set()
    for sample in samples:
        if sample is not None:
            processes |= {(sample.uuid, p.pid, p.memory_used_bytes) for p in sample.processes}
    known: Processes | None = None if None in samples else frozenset(processes)
    return Signs(
        at=snapshot.at,
        utilization_percent=tuple(
            None if sample is None else sample.utilization_percent for sample in samples
        ),
        processes=known,
        report=report,
    )
