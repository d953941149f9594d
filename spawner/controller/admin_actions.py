"""What an admin orders: a GPU drained or given again, a lease ended, somebody in line moved.

Every order says who gives it and why; both are in the trail, written with what was done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from spawner.controller.queue import Inventory
from spawner.ledger import Ledger
from spawner.ledger.trail import TrailAction, TrailFilter
from spawner.model import (
    Cause,
    Drain,
    Gpu,
    Lease,
    LeaseState,
    QueueEnd,
    Reason,
    Refused,
    Unknown,
)
from spawner.serial_executor import SerialExecutor
from spawner.policy.formatting import format_gpu_name

log = logging.getLogger("workbench.orders")

_OVER = frozenset({LeaseState.CLOSING, LeaseState.CLOSED})


class LeaseEnder(Protocol):
    """Who closes leases: the controller."""

    async def end_in_background(self, lease_id: str, cause: Cause, *, by: str, reason: str) -> None:
        """Write that the lease is closing for ``cause``."""


class AdminActions:
    """The admin's word over one ledger and the GPUs of one host."""

    def __init__(
        self,
        ledger: Ledger,
        in_ledger: SerialExecutor,
        gpus: Inventory,
        clock: Callable[[], float],
        leases: LeaseEnder,
        changed: Callable[[], None],
    ) -> None:
        """Join the parts; ``changed`` is called when the line may move."""
        self._ledger = ledger
        self._in_ledger = in_ledger
        self._gpus = gpus
        self._clock = clock
        self._leases = leases
        self._changed = changed

    async def drain(self, gpu_uuid: str, *, by: str, reason: str) -> Drain | Refused:
        """Give this GPU to nobody from now on; whoever has it keeps it. Raises Unknown."""
        gpu = (await self._by_uuid()).get(gpu_uuid)
        if gpu is None:
            return Refused(Reason.NO_GPU, f"There is no GPU {gpu_uuid}: take the UUID of the list.")
        drain = await self._in_ledger(self._write_drain, gpu_uuid, by, reason)
        if drain is None:
            return Refused(Reason.DRAINED, f"{format_gpu_name(gpu)} is drained already.")
        log.warning("%s drained %s (%s): %s", by, format_gpu_name(gpu), gpu_uuid, reason)
        self._changed()
        return drain

    async def undrain(self, gpu_uuid: str, *, by: str, reason: str) -> Refused | None:
        """Let this GPU be given to people again; one that the agent does not see, too. Raises Unknown."""
        is_done = await self._in_ledger(
            self._ledger.undrain, gpu_uuid, by=by, reason=reason, now=self._clock()
        )
        if not is_done:
            return Refused(Reason.NO_DRAIN, "This GPU is not drained: nothing to undrain.")
        log.warning("%s undrained %s: %s", by, gpu_uuid, reason)
        self._changed()
        return None

    async def end(self, lease_id: str, *, by: str, reason: str) -> Refused | None:
        """End a lease, or take somebody out of line; its user is told why. Raises Unknown.

        It is written before this returns; the server is gone as soon as Docker has proved it.
        """
        lease = await self._in_ledger(self._ledger.lease, lease_id)
        if lease is None or lease.state in _OVER:
            return Refused(Reason.NO_LEASE, "This lease is over already: nothing to end.")
        log.warning("%s ends lease=%s user=%s: %s", by, lease_id, lease.user, reason)
        await self._leases.end_in_background(lease_id, Cause.ADMIN, by=by, reason=reason)
        return None

    async def end_reason(self, lease_id: str) -> str | None:
        """Return the reason with which an admin ended the lease, None where none did; raises Unknown."""
        lease = await self._in_ledger(self._ledger.lease, lease_id)
        if lease is None or lease.cause is not Cause.ADMIN:
            return None
        search = TrailFilter(subject=f"lease {lease_id}", action=TrailAction.LEASE_ENDED)
        (told,) = await self._in_ledger(self._ledger.trail, search, limit=1)
        reason: str = told.entry.reason or ""
        return reason

    async def move(self, lease_id: str, to: QueueEnd, *, by: str, reason: str) -> Lease | Refused:
        """Let somebody who waits go first, or last, of those who want the same kind. Raises Unknown."""
        moved = await self._in_ledger(
            self._ledger.reorder, lease_id, to, by=by, reason=reason, now=self._clock()
        )
        if isinstance(moved, Lease):
            log.warning("%s moved lease=%s user=%s %s: %s", by, lease_id, moved.user, to, reason)
            self._changed()
        return moved

    def _write_drain(self, gpu_uuid: str, by: str, reason: str) -> Drain | None:
        # dated as it is written: whatever was granted while it waited for the ledger came before it
        drain = Drain(gpu_uuid, reason, by, self._clock())
        return drain if self._ledger.drain(drain) else None

    async def _by_uuid(self) -> Mapping[str, Gpu]:
        try:
            return {gpu.uuid: gpu for gpu in await self._gpus.inventory()}
        except Unknown as error:
            raise Unknown(f"Nobody knows which GPUs there are: {error}") from error
