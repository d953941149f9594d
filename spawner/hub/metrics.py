"""Metrics: exports leases, queue and GPUs to Prometheus, with JupyterHub's own metrics at ``/hub/metrics``.

A scrape sends no request; it shows the state of the last GPU snapshot. The label ``uuid`` joins these series with the
agent's; no label holds a name that a user chose.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Count
from collections.abc import Iterator, Mapping

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from spawner.ledger import Ledger
from spawner.model import Lease, LeaseState, Reason, Refused, Unknown
from spawner.policy.usage import measured_seconds
from spawner.sampling import GpuSnapshot

_WAITS = (1, 10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 3 * 24 * 3600, 7 * 24 * 3600)
_LIVE = tuple(state for state in LeaseState if state is not LeaseState.CLOSED)

_GRANTS = Counter("workbench_grants", "Leases with GPUs that were granted.")
_WAIT = Histogram(
    "workbench_wait_seconds", "Seconds from the request for GPUs to the grant.", buckets=_WAITS
)
_REFUSALS = Counter("workbench_refusals", "Requests refused.", ["reason"])
for _reason in Reason:
    _REFUSALS.labels(_reason.value)


_DISK_FREE = Gauge("workbench_disk_free_bytes", "Free bytes on the disk of the homes.")
_DISK_SIZE = Gauge("workbench_disk_size_bytes", "Size in bytes of the disk of the homes.")


def publish_disk(free_bytes: int, size_bytes: int) -> None:
    """Set the gauges of the disk."""
    _DISK_FREE.set(free_bytes)
    _DISK_SIZE.set(size_bytes)


def count_grant(lease: Lease) -> None:
    """Count a granted lease and its wait."""
    if lease.gpu_count and lease.granted_at is not None:
        _GRANTS.inc()
        _WAIT.observe(max(lease.granted_at - lease.requested_at, 0.0))


def count_refusal(refused: Refused) -> None:
    """Count a refused request by its reason."""
    _REFUSALS.labels(refused.reason.value).inc()


class Metrics(Collector):
    """The state at the last GPU snapshot, as a Prometheus collector."""

    def __init__(self, ledger: Ledger, period_seconds: float) -> None:
        """Start empty; every counter begins with the hub's process."""
        self._ledger = ledger
        self._period_seconds = period_seconds
        self._seen_at: float | None = None
        self._leases: Count[LeaseState] = Count()
        self._requested_gpus = 0
        self._quarantined: tuple[str, ...] = ()
        self._held: dict[str, float] = {}
        self._used: dict[str, float] = {}

    def publish(self) -> None:
        """Register at ``/hub/metrics``; replace the collector of an earlier hub in the same process."""
        for other in [one for one in REGISTRY._collector_to_names if isinstance(one, Metrics)]:
            REGISTRY.unregister(other)
        REGISTRY.register(self)

    async def update(self, seen: GpuSnapshot) -> None:
        """Read the ledger and account the period up to ``seen``; without the ledger the last state remains."""
        try:
            leases = await asyncio.to_thread(self._ledger.live_leases)
            quarantines = await asyncio.to_thread(self._ledger.quarantines)
        except Unknown:
            return
        self._leases = Count(lease.state for lease in leases)
        waiting = (lease for lease in leases if lease.state is LeaseState.WAITING)
        self._requested_gpus = sum(lease.gpu_count for lease in waiting)
        self._quarantined = tuple(quarantine.gpu_uuid for quarantine in quarantines)
        last, self._seen_at = self._seen_at, seen.at
        for lease in leases:
            if lease.granted_at is None or lease.ended_at is not None:
                continue
            # time before this process began is in an earlier process's counters
            since = seen.at if last is None else max(lease.granted_at, last)
            for uuid in lease.gpu_uuids:
                self._count(uuid, since, seen)

    def _count(self, uuid: str, since: float, seen: GpuSnapshot) -> None:
        """Add the held and used seconds of one GPU ``since`` a time of the lease clock."""
        held = max(seen.at - since, 0.0)
        self._held[uuid] = self._held.get(uuid, 0.0) + held
        sample = seen.samples.get(uuid)
        if sample is not None and sample.utilization_percent is not None:
            known = measured_seconds(since, seen.at, self._period_seconds)
            used = known * sample.utilization_percent / 100
            self._used[uuid] = self._used.get(uuid, 0.0) + used

    def collect(self) -> Iterator[Metric]:
        """Yield all series from memory."""
        leases = GaugeMetricFamily("workbench_leases", "Live leases by state.", labels=["state"])
        for state in _LIVE:
            leases.add_metric([state.value], self._leases[state])
        yield leases
        yield GaugeMetricFamily(
            "workbench_waiting", "Requests in the queue.", value=self._leases[LeaseState.WAITING]
        )
        yield GaugeMetricFamily(
            "workbench_waiting_gpus",
            "GPUs that the requests in the queue ask for.",
            value=self._requested_gpus,
        )
        quarantined = GaugeMetricFamily(
            "workbench_gpu_quarantined", "1 for each GPU in quarantine.", labels=["uuid"]
        )
        for uuid in self._quarantined:
            quarantined.add_metric([uuid], 1)
        yield quarantined
        yield _seconds("workbench_gpu_held_seconds", "GPU-seconds held by leases.", self._held)
        yield _seconds(
            "workbench_gpu_used_seconds", "GPU-seconds held in which the GPU computed.", self._used
        )


def _seconds(name: str, text: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=["uuid"])
    for uuid, seconds in values.items():
        family.add_metric([uuid], seconds)
    return family
