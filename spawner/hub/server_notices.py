"""Server notices: keeps the sentences that servers report about themselves, for their user's pages.

They are texts of a server, so a page shows them to that server's user alone, and never as HTML.
"""

from __future__ import annotations

MAX_SERVERS = 2000
MAX_NOTICES = 10
MAX_CHARACTERS = 500


class ServerNotices:
    """The last reported notices by lease id; the lease that reported longest ago goes first."""

    def __init__(self) -> None:
        self._by_lease: dict[str, tuple[str, ...]] = {}

    def record(self, lease_id: str, notices: tuple[str, ...]) -> None:
        """Keep the notices of the lease's server, in place of earlier ones."""
        self._by_lease.pop(lease_id, None)
        if notices:
            self._by_lease[lease_id] = notices
        while len(self._by_lease) > MAX_SERVERS:
            del self._by_lease[next(iter(self._by_lease))]

    def of(self, lease_id: str) -> tuple[str, ...]:
        """Return the notices of the lease's server, oldest first."""
        return self._by_lease.get(lease_id, ())
