"""Admin actions: drains and undrains GPUs, ends leases and moves waiting ones by order of an admin.

Every action names its admin and a reason; the trail records both in the transaction of the action.
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
from spawner.policy.formatting import format_gpu_name
from spawner.serial_executor import SerialExecutor

log = logging.getLogger(__name__)

_OVER = frozenset({LeaseState.CLOSING, LeaseState.CLOSED})


class LeaseEnder(Protocol):
    """Ends leases: the controller."""

    async def end_in_background(self, lease_id: str, cause: Cause, *, by: str, reason: str) -> None:
        """Record that the lease is closing for ``cause``; end its container in the background."""


class AdminActions:
    """The actions of admins on one ledger and the GPUs of one host."""

    def __init__(
        self,
        ledger: Ledger,
        in_ledger: SerialExecutor,
        gpus: Inventory,
        clock: Callable[[], float],
        leases: LeaseEnder,
        changed: Callable[[], None],
    ) -> None:
        """Take the dependencies; ``changed`` is called when the queue may advance."""
        self._ledger = ledger
        self._in_ledger = in_ledger
        self._gpus = gpus
        self._clock = clock
        self._leases = leases
        self._changed = changed

    async def drain(self, gpu_uuid: str, *, by: str, reason: str) -> Drain | Refused:
        """Exclude this GPU from new leases; its current lease keeps it. Raises Unknown."""
        gpu = (await self._by_uuid()).get(gpu_uuid)
        if gpu is None:
            return Refused(
                Reason.NO_GPU, f"There is no GPU {gpu_uuid}: take a UUID from the list of GPUs."
            )
        drain = await self._in_ledger(self._write_drain, gpu_uuid, by, reason)
        if drain is None:
            return Refused(Reason.DRAINED, f"{format_gpu_name(gpu)} is drained already.")
        log.warning("GPU drained: gpu=%s admin=%s reason=%s", gpu_uuid, by, reason)
        self._changed()
        return drain

    async def undrain(self, gpu_uuid: str, *, by: str, reason: str) -> Refused | None:
        """Allow new leases of this GPU again, even if the gpu-agent does not list it. Raises Unknown."""
        is_done = await self._in_ledger(
            self._ledger.undrain, gpu_uuid, by=by, reason=reason, now=self._clock()
        )
        if not is_done:
            return Refused(Reason.NO_DRAIN, "This GPU is not drained: nothing to undrain.")
        log.warning("GPU undrained: gpu=%s admin=%s reason=%s", gpu_uuid, by, reason)
        self._changed()
        return None

    async def end(self, lease_id: str, *, by: str, reason: str) -> Refused | None:
        """End a lease, waiting or granted; its user sees the reason. Raises Unknown.

        The end is recorded before this returns; the container ends in the background.
        """
        lease = await self._in_ledger(self._ledger.lease, lease_id)
        if lease is None:
            return Refused(
                Reason.UNKNOWN_LEASE,
                f"There is no lease {lease_id[:40]!r}: take its id from the map.",
            )
        if lease.state in _OVER:
            return Refused(Reason.NO_LEASE, "This lease is over already: nothing to end.")
        log.warning(
            "Ended by an admin: lease=%s user=%s admin=%s reason=%s",
            lease_id,
            lease.user,
            by,
            reason,
        )
        await self._leases.end_in_background(lease_id, Cause.ADMIN, by=by, reason=reason)
        return None

    async def end_reason(self, lease_id: str) -> str | None:
        """Return the reason for which an admin ended the lease, None if no admin did; raises Unknown."""
        lease = await self._in_ledger(self._ledger.lease, lease_id)
        if lease is None or lease.cause is not Cause.ADMIN:
            return None
        search = TrailFilter(subject=f"lease {lease_id}", action=TrailAction.LEASE_ENDED)
        (found,) = await self._in_ledger(self._ledger.trail, search, limit=1)
        reason: str = found.entry.reason or ""
        return reason

    async def move(self, lease_id: str, to: QueueEnd, *, by: str, reason: str) -> Lease | Refused:
        """Move a waiting lease to the front or the end of its queue. Raises Unknown."""
        moved = await self._in_ledger(
            self._ledger.reorder, lease_id, to, by=by, reason=reason, now=self._clock()
        )
        if isinstance(moved, Lease):
            log.warning(
                "Moved in the queue: lease=%s user=%s to=%s admin=%s reason=%s",
                lease_id,
                moved.user,
                to,
                by,
                reason,
            )
            self._changed()
        return moved

    def _write_drain(self, gpu_uuid: str, by: str, reason: str) -> Drain | None:
        # dated when it is written: a lease granted while it waited for the ledger must be older
        drain = Drain(gpu_uuid, reason, by, self._clock())
        return drain if self._ledger.drain(drain) else None

    async def _by_uuid(self) -> Mapping[str, Gpu]:
        try:
            return {gpu.uuid: gpu for gpu in await self._gpus.inventory()}
        except Unknown as error:
            raise Unknown(f"The GPUs of this host are unknown: {error}") from error
