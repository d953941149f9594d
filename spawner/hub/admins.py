"""Admins: keeps the invariant that at least one admin can always log in.

Each change that takes away an approval, an account or admin's rights calls ``require_other_admin`` without an await
before its commit. Rights of groups do not count, so no change of a group can break the invariant.
"""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus

from jupyterhub import orm
from nativeauthenticator.orm import UserInfo
from sqlalchemy.orm import Session
from tornado import web


def select_usable_admins(db: Session, permanent: Collection[str]) -> set[str]:
    """Return the names of admins with an approved account; the names ``permanent`` are admins at each log-in."""
    approved = db.query(UserInfo.username).filter(UserInfo.is_authorized)
    admins = db.query(orm.User.name).filter(orm.User.admin)
    return {name for (name,) in approved} & ({name for (name,) in admins} | {*permanent})


def require_other_admin(db: Session, permanent: Collection[str], name: str) -> None:
    """Raise a 409 if no admin but ``name`` can log in."""
    if select_usable_admins(db, permanent) == {name}:
        raise web.HTTPError(
            HTTPStatus.CONFLICT.value,
            f"{name} is the only admin with a log-in: make another user an admin first.",
        )
