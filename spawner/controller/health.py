"""Health monitor: samples the health of every GPU and quarantines those that failed.

An agent that does not answer changes nothing. No container is touched: its lease becomes LOST, and its user decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from spawner.controller.lease_lifecycle import log_fields
from spawner.controller.queue import Inventory
from spawner.ledger import Ledger
from spawner.model import Gpu, Lease, LeaseState, Quarantine, Reason, Refused, Unknown
from spawner.policy.formatting import format_gpu_name
from spawner.policy.health import (
    diagnose,
    format_running_failure,
    format_start_failure,
    select_failures,
)
from spawner.serial_executor import SerialExecutor

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0


class HealthMonitor:
    """Quarantines and releases the GPUs of one host."""

    def __init__(
        self,
        ledger: Ledger,
        in_ledger: SerialExecutor,
        gpus: Inventory,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        """Take the dependencies; ``changed`` is called when a GPU was quarantined or released."""
        self._ledger = ledger
        self._in_ledger = in_ledger
        self._gpus = gpus
        self._clock = clock
        self._changed = changed

    async def watch(self) -> None:
        """Check until cancelled; an unknown health is checked again and logged once per reason."""
        last_reason = ""
        while True:
            try:
                await self.check()
                last_reason = ""
            except Unknown as error:
                if str(error) != last_reason:
                    log.warning("GPU health unknown: state=unknown reason=%s", error)
                last_reason = str(error)
            await asyncio.sleep(CHECK_SECONDS)

    async def check(self) -> None:
        """Quarantine the GPUs that failed since the last check; raises Unknown."""
        for gpu in await self._gpus.inventory():
            failure = diagnose(gpu)
            if failure is None:
                continue
            lost = await self._in_ledger(
                self._ledger.quarantine,
                gpu.uuid,
                failure.reason,
                xid_at=failure.xid_at,
                now=self._clock(),
            )
            if lost is not None:
                log.error(
                    "GPU quarantined: gpu=%s name=%r reason=%r",
                    gpu.uuid,
                    format_gpu_name(gpu),
                    failure.reason,
                )
                for lease in lost:
                    log.error("Lost %s state=lost reason=%r", log_fields(lease), failure.reason)
                self._changed()

    async def release_gpu(self, gpu_uuid: str, by: str) -> Quarantine | Refused:
        """End the quarantine of a GPU by order of the admin ``by``, unless it still fails; raises Unknown.

        The release settles every Xid until now, but no later one.
        """
        gpu = (await self._by_uuid()).get(gpu_uuid)
        name = gpu_uuid if gpu is None else format_gpu_name(gpu)
        failure = None if gpu is None else diagnose(gpu)
        if failure is not None and failure.xid_at is None:
            return Refused(
                Reason.GPU_FAILED, f"{name} still fails: it {failure.reason}. Repair it first."
            )
        released = await self._in_ledger(
            self._ledger.release_gpu,
            gpu_uuid,
            by=by,
            xid_at=None if gpu is None else gpu.xid_at,
            now=self._clock(),
        )
        if released is None:
            return Refused(
                Reason.NO_QUARANTINE, f"{name} is not in quarantine: there is nothing to release."
            )
        log.warning("GPU released: gpu=%s admin=%s reason=%r", gpu_uuid, by, released.reason)
        self._changed()
        return released

    async def trouble_of(self, lease: Lease) -> str | None:
        """Return the notice for the user of a LOST lease, None for any other lease; raises Unknown."""
        if lease.state is not LeaseState.LOST:
            return None
        failures = await self._failures_of(lease)
        return format_running_failure(failures, await self._names())

    async def trouble_at_start(self, lease: Lease) -> str | None:
        """Return the notice that a GPU failed since ``lease`` was granted, None if none did; raises Unknown."""
        failures = await self._failures_of(lease) if lease.gpu_uuids else ()
        return format_start_failure(failures, await self._names()) if failures else None

    async def _failures_of(self, lease: Lease) -> tuple[Quarantine, ...]:
        return select_failures(lease, await self._in_ledger(self._ledger.last_quarantines))

    async def _names(self) -> dict[str, Gpu]:
        try:
            return await self._by_uuid()
        except Unknown:
            return {}  # the notice then shows UUIDs instead of names

    async def _by_uuid(self) -> dict[str, Gpu]:
        return {gpu.uuid: gpu for gpu in await self._gpus.inventory()}
