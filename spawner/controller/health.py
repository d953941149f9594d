"""Looks at every GPU again and again, and quarantines the ill ones.

Silence changes nothing; a container is never touched: its lease is marked LOST, and its user decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from spawner.controller.lease_lifecycle import log_fields
from spawner.controller.queue import Inventory
from spawner.ledger import Ledger
from spawner.model import Gpu, Lease, LeaseState, Quarantine, Reason, Refused, Unknown
from spawner.serial_executor import SerialExecutor
from spawner.policy.health import diagnose, select_failures, format_start_failure, format_running_failure
from spawner.policy.formatting import format_gpu_name

log = logging.getLogger("workbench.health")

CHECK_SECONDS = 2.0


class HealthMonitor:
    """The watch over the GPUs of one host."""

    def __init__(
        self,
        ledger: Ledger,
        in_ledger: SerialExecutor,
        gpus: Inventory,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        """Join the parts; nothing is asked yet. ``changed`` is called when a GPU went into quarantine or came back."""
        self._ledger = ledger
        self._in_ledger = in_ledger
        self._gpus = gpus
        self._clock = clock
        self._changed = changed

    async def watch(self) -> None:
        """Look for ever; what nobody knows is looked at again."""
        complaint = ""
        while True:
            try:
                await self.check()
                complaint = ""
            except Unknown as error:
                if str(error) != complaint:
                    log.warning("Nobody knows how the GPUs are: %s", error)
                complaint = str(error)
            await asyncio.sleep(CHECK_SECONDS)

    async def check(self) -> None:
        """Quarantine whatever is ill and was not known to be; raises Unknown."""
        for gpu in await self._gpus.inventory():
            illness = diagnose(gpu)
            if illness is None:
                continue
            lost = await self._in_ledger(
                self._ledger.quarantine,
                gpu.uuid,
                illness.reason,
                xid_at=illness.xid_at,
                now=self._clock(),
            )
            if lost is not None:
                log.error("Quarantined %s (%s): it %s", format_gpu_name(gpu), gpu.uuid, illness.reason)
                for lease in lost:
                    log.error("Lost %s: its user is told", log_fields(lease))
                self._changed()

    async def release_gpu(self, gpu_uuid: str, by: str) -> Quarantine | Refused:
        """End the quarantine of a GPU on the word of the admin ``by``, unless it still is ill; raises Unknown.

        What its driver reported until now is settled by that; what comes later is not.
        """
        gpu = (await self._by_uuid()).get(gpu_uuid)
        name = gpu_uuid if gpu is None else format_gpu_name(gpu)
        illness = None if gpu is None else diagnose(gpu)
        if illness is not None and illness.xid_at is None:
            return Refused(
                Reason.GPU_FAILED, f"{name} still is ill: it {illness.reason}. Repair it first."
            )
        returned = await self._in_ledger(
            self._ledger.release_gpu,
            gpu_uuid,
            by=by,
            xid_at=None if gpu is None else gpu.xid_at,
            now=self._clock(),
        )
        if returned is None:
            return Refused(
                Reason.NO_QUARANTINE, f"{name} is in no quarantine here: nothing to return."
            )
        log.warning("%s returned %s (%s), which %s", by, name, gpu_uuid, returned.reason)
        self._changed()
        return returned

    async def trouble_of(self, lease: Lease) -> str | None:
        """Return what its user has to know of a LOST lease, None for any other; raises Unknown."""
        if lease.state is not LeaseState.LOST:
            return None
        failures = await self._failures_of(lease)
        return format_running_failure(failures, await self._names())

    async def trouble_at_start(self, lease: Lease) -> str | None:
        """Return which GPU failed since ``lease`` was granted, None where none did; raises Unknown."""
        failures = await self._failures_of(lease) if lease.gpu_uuids else ()
        return format_start_failure(failures, await self._names()) if failures else None

    async def _failures_of(self, lease: Lease) -> tuple[Quarantine, ...]:
        return select_failures(lease, await self._in_ledger(self._ledger.last_quarantines))

    async def _names(self) -> dict[str, Gpu]:
        try:
            return await self._by_uuid()
        except Unknown:
            return {}  # only the names are missing then

    async def _by_uuid(self) -> dict[str, Gpu]:
        return {gpu.uuid: gpu for gpu in await self._gpus.inventory()}
