"""The ledger's line in another order: an admin moves somebody who waits.

What is moved is a priority, which the line's own rule reads; the move and who made it, and why, are one transaction.
"""

from __future__ import annotations

import sqlalchemy as sa

from spawner.ledger import rows
from spawner.ledger.database import transaction
from spawner.ledger.trail import TrailAction
from spawner.model import Lease, LeaseState, QueueEnd, Reason, Refused
from spawner.policy.queue import select_priority


class QueueMoves:
    """The part of the ledger in which somebody who waits is moved."""

    _engine: sa.Engine

    def reorder(
        self, lease_id: str, to: QueueEnd, *, by: str, reason: str, now: float
    ) -> Lease | Refused:
        """Move the lease to one end of its line, or say why it cannot be."""
        with transaction(self._engine) as connection:
            live = rows.live_leases(connection)
            waiting = [lease for lease in live if lease.state is LeaseState.WAITING]
            lease = next((one for one in waiting if one.id == lease_id), None)
            if lease is None:
                return Refused(
                    Reason.NO_LEASE, "Nobody waits with this lease: look at the line again."
                )
            priority = select_priority(lease, waiting, to=to, now=now)
            if isinstance(priority, Refused) or priority == lease.priority:
                return priority if isinstance(priority, Refused) else lease
            moved = rows.write(connection, lease, priority=priority)
            rows.record_lease(
                connection, TrailAction.LEASE_MOVED, lease, moved, at=now, by=by, reason=reason
            )
            return moved
