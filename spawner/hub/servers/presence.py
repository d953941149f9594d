"""Presence: detects whether a user has opened a server since it became ready."""

from __future__ import annotations

from datetime import UTC, datetime

from jupyterhub import orm
from jupyterhub.spawner import Spawner

SETTLE_SECONDS = 30.0
"""Activity in the first seconds is the hub's and the server's own; only later activity is the user's."""


def has_been_opened(spawner: Spawner, ready_at: float) -> bool:
    """Return whether the owner has opened the server in a browser, or used it with a token.

    A browser logs in at the server, which creates a token of the server's OAuth client. Without such a token,
    JupyterHub's record of activity decides, if it is later than ``ready_at`` (seconds since the Unix epoch).
    """
    tokens = spawner.user.db.query(orm.APIToken).filter_by(
        client_id=spawner.oauth_client_id, user_id=spawner.user.orm_user.id
    )
    if tokens.first() is not None:
        return True
    seen: datetime | None = spawner.orm_spawner.last_activity  # UTC, without a time zone
    return seen is not None and seen.replace(tzinfo=UTC).timestamp() > ready_at + SETTLE_SECONDS
