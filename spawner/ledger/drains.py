"""The ledger's drains: which GPUs an admin gives to nobody, although nothing is wrong with them.

A drain ends no lease; it stands until an admin ends it, and who did either, and why, is in the trail.
"""

from __future__ import annotations

import sqlalchemy as sa

from spawner.ledger import rows, tables
from spawner.ledger.database import read_transaction, transaction
from spawner.ledger.trail import TrailAction, Entry, record
from spawner.model import Drain


class Drains:
    """The part of the ledger that knows which GPUs are drained."""

    _engine: sa.Engine

    def drain(self, drain: Drain) -> bool:
        """Let nobody be given this GPU from now on; False where it is drained already."""
        with transaction(self._engine) as connection:
            if rows.drain_of(connection, drain.gpu_uuid) is not None:
                return False
            connection.execute(sa.insert(tables.drains).values(vars(drain)))
            record(
                connection,
                Entry(
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
        """End the drain of a GPU; False where it is not drained."""
        with transaction(self._engine) as connection:
            drain = rows.drain_of(connection, gpu_uuid)
            if drain is None:
                return False
            connection.execute(sa.delete(tables.drains).where(tables.drains.c.gpu_uuid == gpu_uuid))
            entry = Entry(now, by, TrailAction.GPU_UNDRAINED, gpu_uuid, vars(drain), None, reason)
            record(connection, entry)
            return True

    def drains(self) -> tuple[Drain, ...]:
        """Return those that stand, by UUID."""
        with read_transaction(self._engine) as connection:
            return rows.drains(connection)
