"""Start rate: bounds how often one user starts servers, because every start takes Docker's time from the others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from spawner.model import Reason, Refused

BURST = 10


class StartRate:
    """One bucket of ``BURST`` starts for each user, which refills with ``per_hour`` starts in an hour.

    It lives in memory: a new hub begins with full buckets, so the servers that it resumes are never refused.
    """

    def __init__(self, per_hour: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with full buckets; ``clock`` returns seconds."""
        self._seconds_per_start = 3600.0 / per_hour
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def take(self, user: str) -> Refused | None:
        """Take one start of ``user``, or return why there is none left."""
        now = self._clock()
        full_at = max(now, self._full_at.get(user, now)) + self._seconds_per_start
        excess = full_at - now - BURST * self._seconds_per_start
        if excess > 0:
            minutes = math.ceil(excess / 60)
            unit = "minute" if minutes == 1 else "minutes"
            return Refused(
                Reason.TOO_MANY_STARTS,
                f"You started many servers in a short time: try again in {minutes} {unit}.",
            )
        self._full_at[user] = full_at
        return None
