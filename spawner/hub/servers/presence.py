"""Whether the user came for a server whose turn they had waited for."""

from __future__ import annotations

from datetime import UTC, datetime

from jupyterhub import orm
from jupyterhub.spawner import Spawner

SETTLE_SECONDS = 30.0
"""What the hub and the server say to each other at the start counts as activity too; until then it is that."""


def has_been_opened(spawner: Spawner, ready_at: float) -> bool:
    """Return whether the owner has opened the server of ``spawner`` in a browser, or used it with a token.

    A browser has to log in at the server, which leaves a token of the server's own OAuth client. Without one there is
    what JupyterHub knows as activity, later than ``ready_at`` (seconds since the Unix epoch, by the wall clock).
    """
    tokens = spawner.user.db.query(orm.APIToken).filter_by(
        client_id=spawner.oauth_client_id, user_id=spawner.user.orm_user.id
    )
    if tokens.first() is not None:
        return True
    seen: datetime | None = spawner.orm_spawner.last_activity  # UTC without saying so
    return seen is not None and seen.replace(tzinfo=UTC).timestamp() > ready_at + SETTLE_SECONDS
