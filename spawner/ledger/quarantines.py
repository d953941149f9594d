"""The ledger's quarantines: which GPUs failed, and who returned them.

That a GPU goes into quarantine and that its leases are LOST is one transaction.
"""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from spawner.ledger import rows
from spawner.ledger.database import read_transaction, transaction
from spawner.ledger.trail import HUB, TrailAction, Entry, record
from spawner.model import TRANSITIONS, Lease, LeaseState, Quarantine


class Quarantines:
    """The part of the ledger that knows which GPUs nobody may be given."""

    _engine: sa.Engine

    def quarantine(
        self, gpu_uuid: str, reason: str, *, xid_at: float | None, now: float
    ) -> tuple[Lease, ...] | None:
        """Let nobody be given this GPU, and mark the leases that have it in hand as LOST; returns those.

        None where nothing changed: it is quarantined already, or an admin returned it after just this Xid.
        """
        with transaction(self._engine) as connection:
            last = rows.last_quarantine(connection, gpu_uuid)
            if last is not None and (last.returned_at is None or _is_settled(xid_at, last)):
                return None
            quarantine = Quarantine(gpu_uuid, reason, now, xid_at)
            rows.write_quarantine(connection, quarantine)
            entry = Entry(
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
        """End the quarantine of a GPU, on the word of the admin ``by``; None where it is in none.

        ``xid_at`` is its last Xid, if it has any: with the return that is settled, too.
        """
        with transaction(self._engine) as connection:
            last = rows.last_quarantine(connection, gpu_uuid)
            if last is None or last.returned_at is not None:
                return None
            settled_at = last.xid_at if xid_at is None else xid_at
            returned = replace(last, xid_at=settled_at, returned_at=now, returned_by=by)
            rows.write_quarantine(connection, returned)
            entry = Entry(now, by, TrailAction.GPU_RETURNED, gpu_uuid, vars(last), vars(returned))
            record(connection, entry)
            return returned

    def quarantines(self) -> tuple[Quarantine, ...]:
        """Return those that no admin has ended, by UUID."""
        with read_transaction(self._engine) as connection:
            return rows.open_quarantines(connection)

    def last_quarantines(self) -> tuple[Quarantine, ...]:
        """Return the last one of each GPU that ever was in one, ended or not, by UUID."""
        with read_transaction(self._engine) as connection:
            return rows.last_quarantines(connection)


def _lose(connection: sa.Connection, lease: Lease, reason: str, now: float) -> Lease:
    lost = rows.write(connection, lease, state=LeaseState.LOST)
    why = f"a GPU of it {reason}"
    rows.record_lease(connection, TrailAction.LEASE_LOST, lease, lost, at=now, reason=why)
    return lost


def _is_settled(xid_at: float | None, last: Quarantine) -> bool:
    """Return whether the Xid at ``xid_at`` is the one with which an admin ended the quarantine ``last``.

    The agent keeps the last one of a GPU, and its clock may have been set back: which is later does not count.
    """
    return xid_at is not None and xid_at == last.xid_at
