"""Browser sessions: bind each log-in cookie to one session, so that the hub can end a single session.

JupyterHub's own cookie names its user only: a copy of it outlives the log-out, and the only remedy ends the sessions of
every browser of that user. Here the signed cookie also names its session, and the hub's database lists the sessions
that ended. The same session id marks the OAuth tokens by which JupyterLab recognizes the browser.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from jupyterhub import orm
from jupyterhub._xsrf_utils import _set_xsrf_cookie
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.user import User
from sqlalchemy import Column, ColumnElement, Integer, Unicode
from sqlalchemy.orm import Session

_DAY_SECONDS = 24 * 3600


class EndedSession(orm.Base):  # type: ignore[misc]
    """A session that ended before its cookie expires; JupyterHub creates the table at its start."""

    __tablename__ = "workbench_ended_sessions"
    id = Column(Unicode(64), primary_key=True)
    ended_at: Any = Column(Integer, nullable=False)


def bind_sessions() -> None:
    """Make every handler of JupyterHub use cookies that name their session."""
    BaseHandler._set_user_cookie = _set_user_cookie
    BaseHandler._user_for_cookie = _user_for_cookie
    # JupyterHub reads it at each refresh, and sets it only where a handler accepts tokens
    BaseHandler._token_authenticated = False
    BaseHandler.clear_login_cookie = end_session_with(_JUPYTERHUB_CLEAR)


def renew_session(handler: BaseHandler, user: User) -> None:
    """Give the browser of ``handler`` a cookie that survives the revocation of the user's other sessions."""
    _write_cookie(handler, user, handler._session_id)
    # the token of the forms is derived from the cookie
    handler._xsrf_token = _set_xsrf_cookie(
        handler, handler._xsrf_token_id, cookie_path=handler.hub.base_url, authenticated=True
    )


def watch_credential(handler: BaseHandler) -> Callable[[], bool]:
    """Return a function that says whether the cookie or token of a request would still let it in."""
    db = handler.db
    token = handler.get_token()
    if token is not None:
        token_id = token.id

        def is_token_valid() -> bool:
            row = db.query(orm.APIToken).filter_by(id=token_id).populate_existing().first()
            return row is not None and (row.expires_at is None or row.expires_at > orm.utcnow())

        return is_token_valid
    user = handler.get_current_user_cookie()
    session = vars(handler).get("_session_id")
    cookie_id = None if user is None else user.orm_user.cookie_id

    def is_session_valid() -> bool:
        has_ended = db.query(EndedSession).filter_by(id=session).exists()
        users = db.query(orm.User).filter(orm.User.cookie_id == cookie_id, ~has_ended)
        return users.first() is not None

    return is_session_valid


def current_session(handler: BaseHandler) -> str | None:
    """Return the session of a request that a cookie authenticates, None for one with a token."""
    session: str | None = vars(handler).get("_session_id")
    return session if handler.get_current_user_cookie() is not None else None


def end_session_with(clear: Callable[[BaseHandler], None]) -> Callable[..., None]:
    """Return ``clear`` that first ends the session of the request and its tokens on the server."""

    def end_and_clear(handler: BaseHandler, name: str | None = None) -> None:
        user = handler.get_current_user_cookie()
        if user is not None:
            end_session(handler.db, user, handler._session_id, handler.cookie_max_age_days)
        clear(handler)

    return end_and_clear


def end_session(db: Session, user: User, session: str, cookie_days: float) -> None:
    """End one session of ``user``: its cookie, its OAuth tokens and its OAuth codes."""
    now = int(time.time())
    expired: ColumnElement[bool] = EndedSession.ended_at < now - int(cookie_days * _DAY_SECONDS)
    db.query(EndedSession).filter(expired).delete()
    db.merge(EndedSession(id=session, ended_at=now))
    for kind in (orm.APIToken, orm.OAuthCode):
        for found in db.query(kind).filter_by(user_id=user.id, session_id=session):
            db.delete(found)
    db.commit()


def _set_user_cookie(handler: BaseHandler, user: User, _server: object) -> None:
    """Begin a new session: an id that the browser brought along may be known to another person."""
    handler._session_id = uuid.uuid4().hex
    _write_cookie(handler, user, handler._session_id)


def _write_cookie(handler: BaseHandler, user: User, session: str) -> None:
    handler._session_id = session
    handler.set_session_cookie()
    handler._set_cookie(
        handler.hub.cookie_name,
        f"{user.cookie_id}:{session}",
        encrypted=True,
        path=handler.hub.base_url,
    )


def _user_for_cookie(
    handler: BaseHandler, cookie_name: str, cookie_value: str | None = None
) -> User | None:
    """Return the user of a signed cookie whose session has not ended."""
    signed: bytes | None = handler.get_secure_cookie(
        cookie_name, cookie_value, max_age_days=handler.cookie_max_age_days
    )
    cookie_id, _, session = (signed or b"").decode("utf8", "replace").partition(":")
    row = None
    if session:
        # one question: every request of a browser asks it
        has_ended = handler.db.query(EndedSession).filter_by(id=session).exists()
        users = handler.db.query(orm.User).filter(orm.User.cookie_id == cookie_id, ~has_ended)
        row = users.first()
    if row is None:
        if handler.get_cookie(cookie_name):
            handler.log.warning("cookie=%s state=invalid", cookie_name)
            handler.clear_cookie(cookie_name, path=handler.hub.base_url)
        return None
    user: User = handler._user_from_orm(row)
    handler._session_id = session
    if handler._record_activity(user):
        handler.db.commit()
    return user


_JUPYTERHUB_CLEAR: Callable[[BaseHandler], None] = BaseHandler.clear_login_cookie
