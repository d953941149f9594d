"""Token page: lists the tokens of a user, makes one and revokes one, as forms.

A token of the page has one of a few sets of rights; the REST API gives single scopes.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from jupyterhub import orm
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.pages import TokenPageHandler
from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.api_base import Route, bad_request

MAX_NOTE_CHARACTERS = 100
_DAY_SECONDS = 86400
EXPIRIES = {
    "3600": "in an hour",
    f"{_DAY_SECONDS}": "in a day",
    f"{7 * _DAY_SECONDS}": "in a week",
    f"{30 * _DAY_SECONDS}": "in 30 days",
    f"{365 * _DAY_SECONDS}": "in a year",
}


@dataclass(frozen=True)
class Rights:
    """One set of rights that the page offers; ``scopes`` is None for all rights of the user."""

    words: str
    scopes: tuple[str, ...] | None


_SEE = (
    "read:users!user",
    "read:servers!user",
    scopes.READ_GPUS,
    scopes.READ_QUEUE,
    f"{scopes.READ_LEASES}!user",
    f"{scopes.READ_QUOTAS}!user",
    f"{scopes.READ_USAGE}!user",
)
RIGHTS = {
    "all": Rights("do everything that you may do", None),
    "servers": Rights(
        "start, stop and extend your servers",
        (*_SEE, "servers!user", f"{scopes.LEASES}!user"),
    ),
    "see": Rights("only see GPUs, queue, your servers, quota and usage", _SEE),
}


class TokenPage(TokenPageHandler):  # type: ignore[misc]
    """``/hub/token``."""

    made: str | None = None
    error: str | None = None

    @property
    def template_namespace(self) -> dict[str, Any]:
        """Add the choices of the form, the new token, and the sentence of a refusal."""
        return {
            **super().template_namespace,
            "rights": RIGHTS,
            "expiries": self._expiries,
            "made": self.made,
            "error": self.error,
        }

    @web.authenticated
    async def post(self) -> None:
        """Make a token and show it once; a form that cannot be used is shown again with one sentence."""
        try:
            self.made = self._make()
        except web.HTTPError as refused:
            self.set_status(refused.status_code)
            self.error = refused.get_message()
        await self.get()

    def _make(self) -> str:
        note = self.get_body_argument("note", "").strip()
        rights = RIGHTS.get(self.get_body_argument("rights", "all"))
        expires = self.get_body_argument("expires", "")
        if not note or len(note) > MAX_NOTE_CHARACTERS or not note.isprintable():
            raise bad_request(
                f"Write in one line of at most {MAX_NOTE_CHARACTERS} characters what it is for."
            )
        if rights is None or expires not in self._expiries:
            raise bad_request("Choose what the token may do, and when it expires, from the lists.")
        token: str = self.current_user.new_api_token(
            note=note,
            expires_in=int(expires) if expires else None,
            scopes=None if rights.scopes is None else list(rights.scopes),
        )
        self.log.info("user=%s token=made rights=%s", self.current_user.name, rights.words)
        return token

    @property
    def _expiries(self) -> dict[str, str]:
        most = self.settings["token_expires_in_max_seconds"]
        if not most:
            return {**EXPIRIES, "": "never"}
        kept = {seconds: words for seconds, words in EXPIRIES.items() if int(seconds) < most}
        return {**kept, str(most): f"in {most / _DAY_SECONDS:g} days, the longest time here"}


class TokenRevokePage(BaseHandler):  # type: ignore[misc]
    """``POST /hub/token/<id>/revoke``."""

    @web.authenticated
    async def get(self, _token: str) -> None:
        """Lead to the list: a link revokes nothing."""
        self.redirect(f"{self.hub.base_url}token")

    @web.authenticated
    async def post(self, token_id: str) -> None:
        """Revoke one token of the user; for an OAuth token, all of the same application."""
        user = self.current_user
        token = self.db.get(orm.APIToken, int(token_id))
        if token is None or token.user is not user.orm_user:
            raise web.HTTPError(HTTPStatus.NOT_FOUND.value, "This token is revoked already.")
        same = [token]
        if token.client_id != "jupyterhub":
            same = [one for one in user.api_tokens if one.client_id == token.client_id]
        for one in same:
            self.db.delete(one)
        self.db.commit()
        self.redirect(f"{self.hub.base_url}token")


def token_handlers() -> list[Route]:
    """Return the routes, below the hub's prefix."""
    return [("/token", TokenPage, {}), (r"/token/a(\d{1,18})/revoke", TokenRevokePage, {})]
