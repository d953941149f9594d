"""Who a user of the hub is beyond their name.

Whoever gets a deleted user's name is somebody else: home, leases and place in line follow the identity.
"""

from __future__ import annotations

from jupyterhub.user import User


def identify(user: User) -> str:
    """Return what no later user of the same name shares; SQLite gives the ids of deleted rows again."""
    row = user.orm_user
    return f"{row.id} {row.created.isoformat()}"
