"""Quarantines: records which GPUs failed and which admin released them.

One transaction quarantines a GPU and marks its leases LOST.
"""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from spawner.ledger import rows
from spawner.ledger.database import read_transaction, transaction
from spawner.ledger.trail import HUB, TrailAction, TrailEntry, record
from spawner.model import TRANSITIONS, Lease, LeaseState, Quarantine


class Quarantines:
    """The part of the ledger that holds the quarantines."""

    _engine: sa.Engine

    def quarantine(
        self, gpu_uuid: str, reason: str, *, xid_at: float | None, now: float
    ) -> tuple[Lease, ...] | None:
        """Exclude a GPU from new leases and mark the leases that hold it LOST; return those leases.

        None if nothing changed: the GPU is quarantined already, or an admin released it after this same Xid.
        """
        with transaction(self._engine) as connection:
            last = rows.last_quarantine(connection, gpu_uuid)
            if last is not None and (last.returned_at is None or _is_settled(xid_at, last)):
                return None
            quarantine = Quarantine(gpu_uuid, reason, now, xid_at)
            rows.write_quarantine(connection, quarantine)
            entry = TrailEntry(
                now, HUB, TrailAction.GPU_QUARANTINED, gpu_uuid, None, vars(quarantine), reason
            )
            record(connection, entry)
            return tuple(
                _lose(connection, lease, reason, now)
                for lease in rows.live_leases(connection)
                if gpu_uuid in lease.gpu_uuids and LeaseState.LOST in TRANSITIONS[lease.state]
            )

    def release_gpu(
        self, gpu_uuid: str, *, by: str, xid_at: float | None, now: float
    ) -> Quarantine | None:
        """End the quarantine of a GPU by order of the admin ``by``; None if it is not quarantined.

        ``xid_at`` is the time of its latest Xid, if any: the release settles that Xid too.
        """
        with transaction(self._engine) as connection:
            last = rows.last_quarantine(connection, gpu_uuid)
            if last is None or last.returned_at is not None:
                return None
            settled_at = last.xid_at if xid_at is None else xid_at
            returned = replace(last, xid_at=settled_at, returned_at=now, returned_by=by)
            rows.write_quarantine(connection, returned)
            entry = TrailEntry(
                now, by, TrailAction.GPU_RETURNED, gpu_uuid, vars(last), vars(returned)
            )
            record(connection, entry)
            return returned

    def quarantines(self) -> tuple[Quarantine, ...]:
        """Return the active quarantines, by UUID."""
        with read_transaction(self._engine) as connection:
            return rows.open_quarantines(connection)

    def last_quarantines(self) -> tuple[Quarantine, ...]:
        """Return the latest quarantine of each GPU, active or ended, by UUID."""
        with read_transaction(self._engine) as connection:
            return rows.last_quarantines(connection)


def _lose(connection: sa.Connection, lease: Lease, reason: str, now: float) -> Lease:
    lost = rows.write(connection, lease, state=LeaseState.LOST)
    why = f"one of its GPUs {reason}"
    rows.record_lease(connection, TrailAction.LEASE_LOST, lease, lost, at=now, reason=why)
    return lost


def _is_settled(xid_at: float | None, last: Quarantine) -> bool:
    """Return whether the release that ended ``last`` settled the Xid at ``xid_at``.

    Only equality counts: the agent reports the latest Xid, and its clock may have been set back.
    """
    return xid_at is not None and xid_at == last.xid_at
