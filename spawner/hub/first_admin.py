"""First admin: makes sure that an admin can log in, with a password read from standard input.

It runs in the hub's container at each ``scripts/up``. An account that can log in stays unchanged, and so does an
unapproved account of the first admin while another admin can log in.
"""

from __future__ import annotations

import os
import sys

import bcrypt
import sqlalchemy as sa
from nativeauthenticator.orm import UserInfo
from sqlalchemy.orm import Session

from spawner.hub.admins import select_usable_admins
from spawner.hub.approval import MIN_PASSWORD_LENGTH
from spawner.hub.configure import HUB_DATABASE
from spawner.model import SettingsError
from spawner.settings import Settings


def create_admin(database: str, name: str, password: str) -> bool:
    """Create the account, or give an unapproved one this password if no admin can log in; False if it stays.

    Raises SettingsError when the hub's tables are missing or the password is too short.
    """
    if len(password) < MIN_PASSWORD_LENGTH:
        raise SettingsError(f"The password needs at least {MIN_PASSWORD_LENGTH} characters.")
    engine = sa.create_engine(database)
    try:
        if not sa.inspect(engine).has_table(UserInfo.__tablename__):
            raise SettingsError("The hub has not started yet: start it, then create its admin.")
        with Session(engine) as session:
            info: UserInfo | None = UserInfo.find(session, name)
            if info is None:
                info = UserInfo(username=name)
                session.add(info)
            elif select_usable_admins(session, {name}):
                return False
            # an unapproved account may be a stranger's sign-up: its password must not become the admin's
            info.password = bcrypt.hashpw(password.encode(), bcrypt.gensalt())
            info.is_authorized = True
            session.commit()
            return True
    finally:
        engine.dispose()


def main() -> None:
    """Print ``created`` or ``exists``; a failure is one sentence and exit code 1."""
    try:
        settings = Settings.from_environ(os.environ)
        password = sys.stdin.readline().rstrip("\n")
        created = create_admin(HUB_DATABASE, settings.admin, password)
    except SettingsError as error:
        sys.exit(str(error))
    print("created" if created else "exists")  # noqa: T201 - scripts/up reads it


if __name__ == "__main__":
    main()
