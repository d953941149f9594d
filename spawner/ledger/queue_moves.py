"""Queue moves: changes the position of a waiting lease by order of an admin.

A move changes the lease's priority, which the queue's own rule reads. The move and its trail entry are one transaction.
"""

from __future__ import annotations

import sqlalchemy as sa

from spawner.ledger import rows
from spawner.ledger.database import transaction
from spawner.ledger.trail import TrailAction
from spawner.model import Lease, LeaseState, QueueEnd, Reason, Refused
from spawner.policy.queue import select_priority


class QueueMoves:
    """The part of the ledger that reorders the queue."""

    _engine: sa.Engine

    def reorder(
        self, lease_id: str, to: QueueEnd, *, by: str, reason: str, now: float
    ) -> Lease | Refused:
        """Move the lease to one end of its queue, or return why it cannot move."""
        with transaction(self._engine) as connection:
            live = rows.live_leases(connection)
            waiting = [lease for lease in live if lease.state is LeaseState.WAITING]
            lease = next((one for one in waiting if one.id == lease_id), None)
            if lease is None:
                return Refused(
                    Reason.NO_LEASE, "This lease is not waiting any more: reload the queue."
                )
            priority = select_priority(lease, waiting, to=to, now=now)
            if isinstance(priority, Refused) or priority == lease.priority:
                return priority if isinstance(priority, Refused) else lease
            moved = rows.write(connection, lease, priority=priority)
            rows.record_lease(
                connection, TrailAction.LEASE_MOVED, lease, moved, at=now, by=by, reason=reason
            )
            return moved
