"""Sign-up: the authenticator of accounts with passwords, which can log in after an admin's approval.

Wrong passwords count for an address and for an address with a name, never for a name alone: no stranger can lock a
user out. Everything that needs no hash is checked before one, and an unknown name takes as long as a known one.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_network
from typing import Any

import bcrypt
from jupyterhub.app import JupyterHub
from jupyterhub.user import User
from nativeauthenticator.nativeauthenticator import NativeAuthenticator
from nativeauthenticator.orm import UserInfo
from sqlalchemy import func
from tornado import web
from traitlets import Integer, List, Unicode
from zxcvbn import zxcvbn

from spawner.hub.admins import require_other_admin
from spawner.hub.attempts import Attempts
from spawner.hub.client_address import PROXY_NAMES, ClientAddresses
from spawner.hub.password_hashing import PasswordHashing, TooBusyError

NAME_PATTERN = r"[a-z0-9][a-z0-9._@+-]{0,63}\Z"
MAX_NAME_CHARACTERS = 64
MAX_PASSWORD_BYTES = 72  # bcrypt's own bound
MIN_PASSWORD_LENGTH = 8
COMMON_WORDS = ("workbench", "jupyter", "jupyterhub")
MIN_WORD_CHARACTERS = 3
# the time of the estimate grows with the square of the length
MAX_RATED_CHARACTERS = 32
MIN_PASSWORD_SCORE = 3
"""On zxcvbn's scale from 0 to 4: at least 10^8 guesses."""

WRONG_PASSWORDS_OF_NAME = 10
WRONG_PASSWORDS_OF_ADDRESS = 60
WRONG_PASSWORD_SECONDS = 60.0
KNOWN_SECONDS = 30 * 24 * 3600.0
# a class signs up from one address in its first lesson
SIGN_UPS_OF_ADDRESS = 50
REFUSED_NAMES_OF_ADDRESS = 50
"""A refusal says whether a name is taken: without a limit, strangers could ask for every name."""
SIGN_UP_SECONDS = 3600.0


class TooManyAttemptsError(web.HTTPError):
    """A 429 with one sentence and ``Retry-After``."""

    def __init__(self, sentence: str, wait_seconds: float) -> None:
        """Show ``sentence``; the client may try again after ``wait_seconds``."""
        super().__init__(HTTPStatus.TOO_MANY_REQUESTS.value, "%s", sentence)
        self.jupyterhub_message = sentence
        self.headers = {"Retry-After": str(max(1, round(wait_seconds + 0.5)))}


@dataclass(frozen=True)
class SignUpProof:
    """A log-in by the browser that chose the account's password; no form can send it."""

    name: str


class ApprovedSignUp(NativeAuthenticator):  # type: ignore[misc]
    """NativeAuthenticator with JupyterHub's own log-in page; an admin's name cannot be signed up."""

    max_sign_ups = Integer(100, min=0, config=True, help="Sign-ups that may wait for approval.")
    trusted_proxies = List(Unicode(), config=True, help="Networks of proxies before ours.")
    proxy_names = List(Unicode(), [*PROXY_NAMES], config=True, help="Host names of our proxy.")

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401
        """Start without counted attempts."""
        super().__init__(**kwargs)
        networks = map(ip_network, self.trusted_proxies)
        self.client_addresses = ClientAddresses([*networks], self.proxy_names)
        self._hashing = PasswordHashing()
        self._wrong_for_name = Attempts(WRONG_PASSWORDS_OF_NAME, WRONG_PASSWORD_SECONDS)
        self._wrong = Attempts(WRONG_PASSWORDS_OF_ADDRESS, WRONG_PASSWORD_SECONDS)
        self._known = Attempts(1, KNOWN_SECONDS)
        self._sign_ups = Attempts(SIGN_UPS_OF_ADDRESS, SIGN_UP_SECONDS)
        self._refused_names = Attempts(REFUSED_NAMES_OF_ADDRESS, SIGN_UP_SECONDS)
        self._dummy_hash = bcrypt.hashpw(b"", bcrypt.gensalt())

    # --- log-in

    async def authenticate(self, handler: web.RequestHandler, data: dict[str, str]) -> str | None:
        """Return the user's name, None for a wrong password; raises a 403 when only the approval is missing.

        NativeAuthenticator's own method blocks the event loop with bcrypt for 0.25 s.
        """
        proof: object = data.get("proof")
        if isinstance(proof, SignUpProof):
            name = proof.name
        elif not {"username", "password"} <= data.keys():
            raise web.HTTPError(HTTPStatus.BAD_REQUEST.value, "Send a username and a password.")
        else:
            name = self.normalize_username(data["username"])
            if not await self.is_own_password(handler, name, data["password"]):
                return None
        info: UserInfo | None = self.get_user(name)
        if info is None or not info.is_authorized:
            raise web.HTTPError(
                403, "An admin has not approved your account yet: ask an admin, then log in again."
            )
        return name

    async def is_own_password(self, handler: web.RequestHandler, name: str, password: str) -> bool:
        """Return whether ``password`` is that of the account ``name``; raises TooManyAttemptsError."""
        address = await self.client_addresses.get(handler.request)
        now = time.monotonic()
        is_known = self._known.count((address, name), now) > 0
        self._require_attempts_left(address, name, now, is_known=is_known)
        # a user who logged in from here before waits for no stranger behind the same address
        lane = f"{address} {name}" if is_known else address
        rank = -1 if is_known else self._wrong.count(address, now)
        # counted before the hash: requests at the same moment must not pass the limit together
        self._wrong_for_name.add((address, name), now)
        # a full address forgets its oldest attempt for a new one: a known user's right password must not free a place
        if not is_known:
            self._wrong.add(address, now)
        info: UserInfo | None = self.get_user(name) if self.validate_username(name) else None
        hashed = self._dummy_hash if info is None else info.password
        if not 0 < len(password.encode()) <= MAX_PASSWORD_BYTES:
            return False
        try:
            is_right = await self._hash(lane, rank, bcrypt.checkpw, password.encode(), hashed)
        except TooManyAttemptsError:
            self._wrong_for_name.take_back((address, name))
            if not is_known:
                self._wrong.take_back(address)
            raise
        # the password may have been changed, or the account removed, during the hash
        current: UserInfo | None = self.get_user(name)
        if not is_right or current is None or current.password != hashed:
            return False
        self._wrong_for_name.clear((address, name))
        if not is_known:
            self._wrong.take_back(address)
        self._known.add((address, name), now)
        return True

    def _require_attempts_left(
        self, address: str, name: str, now: float, *, is_known: bool
    ) -> None:
        wait = self._wrong_for_name.wait_seconds((address, name), now)
        if not is_known:
            wait = max(wait, self._wrong.wait_seconds(address, now))
        if wait > 0:
            raise TooManyAttemptsError("Too many wrong passwords: try again in a minute.", wait)

    async def _hash(self, lane: str, rank: int, compute: Any, *arguments: object) -> Any:  # noqa: ANN401
        try:
            return await self._hashing.run(lane, rank, compute, *arguments)
        except TooBusyError:
            raise TooManyAttemptsError(
                "Too many log-ins at this moment: try again in a second.", 1
            ) from None

    # --- accounts

    async def sign_up(
        self, handler: web.RequestHandler, name: str, password: str, again: str
    ) -> dict[str, str]:
        """Store a sign-up; return the sentences that say what is wrong, by field. Raises TooManyAttemptsError."""
        address = await self.client_addresses.get(handler.request)
        now = time.monotonic()
        wait = max(
            each.wait_seconds(address, now) for each in (self._sign_ups, self._refused_names)
        )
        if wait > 0:
            raise TooManyAttemptsError(
                "Too many sign-ups from your network: try again in an hour.", wait
            )
        self._require_room()
        name = self.normalize_username(name)
        if (error := self._name_error(name)) is not None:
            self._refused_names.add(address, now)
            return {"username": error}
        if password != again:
            return {"again": "The two passwords differ: type them again."}
        made = await self._hash(address, 0, hash_password, password, name)
        if isinstance(made, str):
            return {"password": made}
        # others may have signed up during the hash
        self._require_room()
        if (error := self._name_error(name)) is not None:
            return {"username": error}
        self._sign_ups.add(address, time.monotonic())
        self.db.add(UserInfo(username=name, password=made))
        self.db.commit()
        return {}

    async def set_password(
        self,
        handler: web.RequestHandler,
        name: str,
        password: str,
        record: Callable[[], Awaitable[None]] | None = None,
        stamp: str | None = None,
    ) -> str | None:
        """Store a new password of the account ``name``; return the sentence that says why not.

        ``record`` is awaited before the change, once nothing speaks against it. With a ``stamp`` the account must still
        have it then.
        """
        address = await self.client_addresses.get(handler.request)
        made = await self._hash(address, 0, hash_password, password, name)
        if isinstance(made, str):
            return made
        info: UserInfo | None = self.get_user(name)
        if info is None:
            return f"{name} has no account any more."
        if record is not None:
            await record()
            info = self.get_user(name)
            if info is None:
                return f"{name} has no account any more."
        if stamp is not None and self.stamp(name) != stamp:
            return "The password was changed a moment ago: ask an admin for a new link."
        info.password = made
        self.db.commit()
        return None

    def set_approval(self, name: str, *, is_approved: bool) -> None:
        """Approve the account ``name``, or take the approval back; raises a 409 for the only admin with a log-in."""
        info: UserInfo = self.get_user(name)
        if not is_approved:
            require_other_admin(self.db, self.admin_users, name)
        info.is_authorized = is_approved
        self.db.commit()

    def get_user(self, username: str) -> UserInfo | None:
        """Return the account as the database has it now; ``first_admin`` writes from another process."""
        found = self.db.query(UserInfo).filter_by(username=self.normalize_username(username))
        info: UserInfo | None = found.populate_existing().first()
        return info

    def stamp(self, name: str) -> str | None:
        """Return a text that holds until the account ``name`` gets another password or ends, None without one."""
        info: UserInfo | None = self.get_user(name)
        if info is None:
            return None
        return hashlib.sha256(f"{info.id}:".encode() + bytes(info.password)).hexdigest()

    def is_unapproved(self, name: str) -> bool:
        """Return whether ``name`` has an account that is not approved."""
        info: UserInfo | None = self.get_user(name)
        return info is not None and not info.is_authorized

    def delete_user(self, user: User) -> None:
        """Delete the account of a deleted user; raises a 409 for the only admin with a log-in."""
        require_other_admin(self.db, self.admin_users, user.name)
        super().delete_user(user)

    def rename_user(self, name: str, new_name: str) -> None:
        """Rename the sign-up of a user whom an admin renamed."""
        info: UserInfo | None = self.get_user(name)
        if info is not None:
            info.username = new_name
            self.db.commit()

    def get_handlers(self, app: JupyterHub) -> list[tuple[Any, ...]]:
        """Return no pages: those of accounts need the workbench and are among its routes."""
        return []

    def _require_room(self) -> None:
        pending = self.db.query(func.count(UserInfo.id)).filter(~UserInfo.is_authorized).scalar()
        if pending >= self.max_sign_ups:
            raise TooManyAttemptsError(
                "Too many sign-ups wait for approval: ask an admin to decide on them.", 60
            )

    def _name_error(self, name: str) -> str | None:
        if not self.validate_username(name):
            return explain_name(name)
        if name in self.admin_users or self.user_exists(name):
            return "This username is taken: choose another one."
        return None


def explain_name(name: str) -> str:
    """Return the sentence that says why ``name`` cannot be a username."""
    if not name:
        return "Type a username."
    if len(name) > MAX_NAME_CHARACTERS:
        return f"This username has {len(name)} characters: choose one of at most {MAX_NAME_CHARACTERS}."
    strange = next(
        (character for character in name if not re.match(r"[a-z0-9._@+-]", character)), ""
    )
    if strange.isspace():
        return "A username has no blanks: write a hyphen or a dot instead."
    if strange.isalpha():
        return f"A username has the letters a to z only, so that no two names look alike: replace {strange}."
    if strange:
        shown = strange if strange.isprintable() else "the invisible character"
        return f"A username has letters, digits and . _ - + @ only: replace {shown}."
    return f"A username begins with a letter or a digit, not with {name[0]}."


def hash_password(password: str, name: str) -> bytes | str:
    """Return the hash of a new password for ``name``, or the sentence that says why it cannot be used."""
    if not password.strip():
        return "Type a password that is not blank."
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        return f"A password has at most {MAX_PASSWORD_BYTES} bytes: choose a shorter one."
    if len(password) < MIN_PASSWORD_LENGTH:
        return f"A password has at least {MIN_PASSWORD_LENGTH} characters: choose a longer one."
    # words that a guesser knows count as nothing
    words = sorted({name, *COMMON_WORDS}, key=len, reverse=True)
    known = "|".join(re.escape(word) for word in words if len(word) >= MIN_WORD_CHARACTERS)
    rated = re.sub(known, "", password, flags=re.IGNORECASE)[:MAX_RATED_CHARACTERS]
    if not rated or zxcvbn(rated)["score"] < MIN_PASSWORD_SCORE:
        return "This password is easy to guess: choose a longer one, such as four unrelated words."
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt())
