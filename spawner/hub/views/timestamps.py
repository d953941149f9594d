"""Points in time as pages and the API show them.

A moment is wall-clock time; the server writes it with its time zone, the browser rewrites it as local time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Timestamp:
    """``at`` in seconds since the Unix epoch, by the wall clock."""

    at: float

    @property
    def iso(self) -> str:
        """Return ``2026-11-23T14:30:00Z``."""
        return datetime.fromtimestamp(self.at, UTC).isoformat(timespec="seconds")[:-6] + "Z"

    def say(self, now: float) -> str:
        """Return ``14:30 UTC``, on another day than ``now`` ``Tue 14:30 UTC``, in the hub's time zone."""
        here = datetime.fromtimestamp(self.at, UTC).astimezone()
        is_today = here.date() == datetime.fromtimestamp(now, UTC).astimezone().date()
        return here.strftime("%H:%M %Z" if is_today else "%a %H:%M %Z")
