"""Metrics: formats a report as Prometheus text.

Names end in Prometheus base units. An unknown value has no line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from spawner.agent.readings import GpuReading, Report
from spawner.model import GpuHealth

_HEALTH = {GpuHealth.OK: 1.0, GpuHealth.LOST: 0.0, GpuHealth.UNKNOWN: None}

_GAUGES: dict[str, tuple[str, Callable[[GpuReading], float | None]]] = {
    "memory_used_bytes": ("Memory in use.", lambda reading: reading.memory_used_bytes),
    "memory_total_bytes": ("Memory of the GPU.", lambda reading: reading.memory_total_bytes),
    "temperature_celsius": ("Temperature of the GPU.", lambda r: r.temperature_celsius),
    "utilization_ratio": (
        "Fraction of time with a running kernel, 0 to 1.",
        lambda reading: _scaled(reading.utilization_percent, 0.01),
    ),
    "power_watts": ("Power drawn.", lambda reading: reading.power_watts),
    "power_limit_watts": ("Power limit.", lambda r: r.power_limit_watts),
    "sm_clock_hertz": ("Clock of the SMs.", lambda reading: _scaled(reading.sm_clock_mhz, 1e6)),
    "healthy": ("1 when NVML reads the GPU, 0 when it is lost.", lambda r: _HEALTH[r.health]),
}


_MIG_GAUGES: dict[str, tuple[str, Callable[[GpuReading], float | None]]] = {
    "memory_used_bytes": ("Memory in use in a MIG instance.", lambda r: r.memory_used_bytes),
    "memory_total_bytes": ("Memory of a MIG instance.", lambda r: r.memory_total_bytes),
}


def _scaled(value: float | None, by: float) -> float | None:
    return None if value is None else value * by


class _ReportCollector(Collector):
    """Collector of one report as metric families."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "workbench_nvml_up",
            "1 when NVML answers for every GPU of the host.",
            value=0 if self._report.error else 1,
        )
        yield from self._gpus()
        yield from self._xids()
        yield from self._mig_instances()

    def _gpus(self) -> Iterator[Metric]:
        report = self._report
        info = InfoMetricFamily("workbench_gpu", "Identity of a GPU.", labels=["uuid", "name"])
        for gpu in report.gpus:
            more = {
                "compute_capability": gpu.compute_capability,
                "pci_bus_id": gpu.pci_bus_id,
                "mig_mode": gpu.mig_mode,
                "driver_version": report.driver_version,
                "simulated": str(gpu.is_simulated).lower(),
            }
            known = {key: value for key, value in more.items() if value is not None}
            info.add_metric([gpu.uuid, gpu.name], known)
        yield info
        for name, (text, value_of) in _GAUGES.items():
            family = GaugeMetricFamily(f"workbench_gpu_{name}", text, labels=["uuid", "name"])
            for gpu in report.gpus:
                value = value_of(report.readings[gpu.uuid])
                if value is not None:
                    family.add_metric([gpu.uuid, gpu.name], value)
            yield family

    def _xids(self) -> Iterator[Metric]:
        labels = ["uuid", "name"]
        numbers = GaugeMetricFamily(
            "workbench_gpu_last_fatal_xid", "Number of the last fatal Xid.", labels=labels
        )
        times = GaugeMetricFamily(
            "workbench_gpu_last_fatal_xid_timestamp_seconds",
            "Time of the last fatal Xid.",
            labels=labels,
        )
        for gpu in self._report.gpus:
            xid = self._report.xids.get(gpu.uuid)
            if xid is not None:
                numbers.add_metric([gpu.uuid, gpu.name], xid.number)
                times.add_metric([gpu.uuid, gpu.name], xid.at)
        yield numbers
        yield times

    def _mig_instances(self) -> Iterator[Metric]:
        """Yield MIG instances under separate names, so a sum over GPUs counts each byte once."""
        labels = ["uuid", "gpu_uuid", "profile"]
        for name, (text, value_of) in _MIG_GAUGES.items():
            family = GaugeMetricFamily(f"workbench_mig_{name}", text, labels=labels)
            for gpu in self._report.gpus:
                for instance in gpu.mig_instances:
                    value = value_of(self._report.readings[instance.uuid])
                    if value is not None:
                        family.add_metric([instance.uuid, gpu.uuid, instance.profile], value)
            yield family


def format_metrics(report: Report) -> bytes:
    """Return the body of ``/metrics``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ReportCollector(report))
    return generate_latest(registry)
