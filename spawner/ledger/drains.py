"""Drains: records which healthy GPUs an admin has excluded from new leases.

A drain ends no lease and lasts until an admin ends it; the trail records both with actor and reason.
"""

from __future__ import annotations

import sqlalchemy as sa

from spawner.ledger import rows, tables
from spawner.ledger.database import read_transaction, transaction
from spawner.ledger.trail import TrailAction, TrailEntry, record
from spawner.model import Drain


class Drains:
    """The part of the ledger that holds the drains."""

    _engine: sa.Engine

    def drain(self, drain: Drain) -> bool:
        """Exclude a GPU from new leases; False if it is drained already."""
        with transaction(self._engine) as connection:
            if rows.drain_of(connection, drain.gpu_uuid) is not None:
                return False
            connection.execute(sa.insert(tables.drains).values(vars(drain)))
            record(
                connection,
                TrailEntry(
                    drain.since,
                    drain.by,
                    TrailAction.GPU_DRAINED,
                    drain.gpu_uuid,
                    None,
                    vars(drain),
                    drain.reason,
                ),
            )
            return True

    def undrain(self, gpu_uuid: str, *, by: str, reason: str, now: float) -> bool:
        """End the drain of a GPU; False if it is not drained."""
        with transaction(self._engine) as connection:
            drain = rows.drain_of(connection, gpu_uuid)
            if drain is None:
                return False
            connection.execute(sa.delete(tables.drains).where(tables.drains.c.gpu_uuid == gpu_uuid))
            entry = TrailEntry(
                now, by, TrailAction.GPU_UNDRAINED, gpu_uuid, vars(drain), None, reason
            )
            record(connection, entry)
            return True

    def drains(self) -> tuple[Drain, ...]:
        """Return the active drains, by UUID."""
        with read_transaction(self._engine) as connection:
            return rows.drains(connection)
