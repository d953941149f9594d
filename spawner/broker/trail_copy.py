"""Trail copy: writes every new entry of the audit trail to the broker's log, which the hub cannot change.

A fallen hub can rewrite its database, but neither Docker's log of this container nor the place to which the host's log
driver sends it. An entry that disappears from the database is reported.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable

import sqlalchemy as sa

from spawner.ledger import Ledger
from spawner.ledger.trail import StoredEntry
from spawner.model import Unknown

log = logging.getLogger(__name__)

PERIOD_SECONDS = 5.0


class TrailCopy:
    """Copies the trail of one ledger from the newest entry at the start on."""

    def __init__(self, ledger: Callable[[], Ledger]) -> None:
        """Take the function that returns the open ledger or raises Unknown."""
        self._open_ledger = ledger
        self._last: StoredEntry | None = None
        self._is_begun = False
        self._problem = ""

    async def run(self) -> None:
        """Copy again and again until cancelled; an unreadable ledger is read again later."""
        while True:
            await asyncio.to_thread(self._try_copy)
            await asyncio.sleep(PERIOD_SECONDS)

    def _try_copy(self) -> None:
        """Copy once; a row that a fallen hub made unreadable must not end the copy in silence."""
        try:
            self.copy_new()
            problem = ""
        except (Unknown, sa.exc.SQLAlchemyError) as error:
            log.debug("Trail not read: state=unknown reason=%s", error)
            return
        except Exception as error:  # noqa: BLE001 - the hub writes the rows
            problem = repr(error)[:200]
        if problem and problem != self._problem:
            log.error("Trail unreadable: after=%d reason=%s", self._last_id, problem)
        self._problem = problem

    @property
    def _last_id(self) -> int:
        return self._last.id if self._last else 0

    def copy_new(self) -> None:
        """Log the entries since the last call; raises Unknown."""
        ledger = self._open_ledger()
        if not self._is_begun:
            newest = ledger.trail(limit=1)
            self._last = newest[0] if newest else None
            self._is_begun = True
            log.info("Trail copied from here on: after=%d", self._last_id)
            return
        if self._last is not None:
            kept = ledger.trail_after(self._last.id - 1, 1)
            if not kept or kept[0] != self._last:
                log.error("Trail changed: entry=%d state=missing or different", self._last.id)
                self._last = kept[0] if kept else None
                self._is_begun = bool(kept)
                return
        while found := ledger.trail_after(self._last_id):
            for stored in found:
                line = {"id": stored.id, **vars(stored.entry)}
                log.info("Trail: %s", json.dumps(line, ensure_ascii=False))
            self._last = found[-1]
