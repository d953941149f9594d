"""Attempts: counts what one key did lately, and returns how long the next attempt has to wait.

The memory is bounded, and the time is an argument. A restart of the hub forgets all counts.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable

MAX_KEYS = 20_000


class Attempts:
    """Allows ``most`` attempts of each key within ``seconds``."""

    def __init__(self, most: int, seconds: float, max_keys: int = MAX_KEYS) -> None:
        """Start without attempts; at most ``max_keys`` keys are remembered, the latest ones."""
        self._most = most
        self._seconds = seconds
        self._max_keys = max_keys
        self._times: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of remembered keys."""
        return len(self._times)

    def count(self, key: Hashable, now: float) -> int:
        """Return the attempts of ``key`` within the last ``seconds``."""
        times = self._times.get(key)
        if times is None:
            return 0
        while times and now - times[0] >= self._seconds:
            times.popleft()
        if not times:
            del self._times[key]
        return len(times)

    def wait_seconds(self, key: Hashable, now: float) -> float:
        """Return the seconds until ``key`` may try again, 0 when it may now."""
        if self.count(key, now) < self._most:
            return 0.0
        return self._times[key][0] + self._seconds - now

    def add(self, key: Hashable, now: float) -> None:
        """Count an attempt of ``key``."""
        # the oldest attempt of a full key no longer decides anything
        self._times.setdefault(key, deque(maxlen=self._most)).append(now)
        self._times.move_to_end(key)
        if len(self._times) > self._max_keys:
            self._times.popitem(last=False)

    def take_back(self, key: Hashable) -> None:
        """Forget the last attempt of ``key``: it was none."""
        times = self._times.get(key)
        if times:
            times.pop()

    def clear(self, key: Hashable) -> None:
        """Forget every attempt of ``key``."""
        self._times.pop(key, None)
