"""Who a user of the hub is beyond their name.

Whoever gets a deleted user's name is somebody else: home, leases and place in line follow the identity.
"""

from __future__ import annotations

from jupyterhub import orm
from jupyterhub.user import User

from spawner.ledger.quotas import Owner


def identify(user: User) -> str:
    """Return what no later user of the same name shares; SQLite gives the ids of deleted rows again."""
    return identify_row(user.orm_user)


def identify_row(row: orm.User) -> str:
    """Return the same of a row of the hub's database."""
    return f"{row.id} {row.created.isoformat()}"


def actor_name(who: User | orm.Service) -> str:
    """Return what the audit trail calls the user or service ``who``."""
    return str(who.name) if isinstance(who, User) else f"service {who.name}"


def quota_subject(user: User) -> Owner:
    """Return ``user`` as quotas know them, with the groups that they are in now."""
    groups = tuple(sorted(group.name for group in user.orm_user.groups))
    return Owner(user.name, identify(user), groups)
