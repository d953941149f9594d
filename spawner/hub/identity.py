"""Identity: distinguishes users of the hub beyond their names.

A new user with a deleted user's name is another identity: home, leases and queue position follow the identity.
"""

from __future__ import annotations

from jupyterhub import orm
from jupyterhub.user import User

from spawner.ledger.quotas import Owner


def identify(user: User) -> str:
    """Return the identity of ``user``: row id and creation time, because SQLite reuses the ids of deleted rows."""
    return identify_row(user.orm_user)


def identify_row(row: orm.User) -> str:
    """Return the identity of a row of the hub's database."""
    return f"{row.id} {row.created.isoformat()}"


def actor_name(actor: User | orm.Service) -> str:
    """Return the name of a user or service in the audit trail."""
    return str(actor.name) if isinstance(actor, User) else f"service {actor.name}"


def quota_subject(user: User) -> Owner:
    """Return ``user`` as a quota subject, with the current groups."""
    groups = tuple(sorted(group.name for group in user.orm_user.groups))
    return Owner(user.name, identify(user), groups)
