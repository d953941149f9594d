"""Timestamps: format points of wall-clock time for pages and the API.

The server writes the time with its own time zone; the browser rewrites it as local time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Timestamp:
    """A point of wall-clock time; ``at`` is seconds since the Unix epoch."""

    at: float

    @property
    def iso(self) -> str:
        """Return ``2026-11-23T14:30:00Z``."""
        return datetime.fromtimestamp(self.at, UTC).isoformat(timespec="seconds")[:-6] + "Z"

    def format(self, now: float) -> str:
        """Return ``14:30 UTC`` in the hub's time zone, with the weekday (``Tue 14:30 UTC``) on another day."""
        local = datetime.fromtimestamp(self.at, UTC).astimezone()
        is_today = local.date() == datetime.fromtimestamp(now, UTC).astimezone().date()
        return local.strftime("%H:%M %Z" if is_today else "%a %H:%M %Z")
