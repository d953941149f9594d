"""Group allowance: revokes everything of a user who leaves the group that let them in.

An authenticator with ``allowed_groups`` reads them at a log-in only, so sessions and servers would outlive the group.
"""

from __future__ import annotations

from collections.abc import Collection

from jupyterhub.auth import Authenticator
from jupyterhub.user import User

from spawner.hub.servers.revocation import Extent, Revocation, revoke
from spawner.hub.workbench import Workbench


async def revoke_without_allowed_group(
    workbench: Workbench,
    authenticator: Authenticator,
    user: User,
    lost: Collection[str],
    by: str,
) -> None:
    """Revoke the account of ``user`` if a ``lost`` group was the only rule that allowed it; raises Unknown."""
    if is_allowed_without(authenticator, user, lost):
        return
    order = Revocation(Extent.ACCOUNT, by, "the group that allowed the account was left")
    await revoke(workbench, user, order)


def is_allowed_without(authenticator: Authenticator, user: User, lost: Collection[str]) -> bool:
    """Return whether another rule lets ``user`` in; True where no ``lost`` group is such a rule."""
    allowed = set(getattr(authenticator, "allowed_groups", ()))
    if allowed.isdisjoint(lost):
        return True
    groups = {group.name for group in user.orm_user.groups}
    return (
        bool(authenticator.allow_all)
        or user.admin
        or user.name in authenticator.allowed_users
        or user.name in authenticator.admin_users
        or not allowed.isdisjoint(groups)
    )
