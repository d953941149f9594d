"""Revocation: takes back what a user was given, by one function for every reason.

- Log-out: ends this session and its tokens; queue and servers stay.
- Own password changed: ends all other sessions and their tokens; queue and servers stay.
- Password set by an admin, or *Log out everywhere*: ends all sessions and tokens, leaves the queue; servers stay.
- Approval withdrawn, or account deleted: ends all sessions, tokens, queue positions and servers.

*Tokens* are API tokens, OAuth tokens and OAuth codes. A server that goes on keeps its own token. JupyterLab asks the
hub about a browser's OAuth token at least every ``policy.container.LAB_CACHE_SECONDS``, and then refuses the browser.
The log-out is in ``hub.sessions``; everything else is ``revoke``.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import Enum

from jupyterhub import orm
from jupyterhub.user import User

from spawner.hub.workbench import Workbench
from spawner.model import Cause, LeaseState

log = logging.getLogger(__name__)


class Extent(Enum):
    """Which leases of the user end with the sessions and tokens."""

    SESSIONS = frozenset[LeaseState]()
    QUEUE = frozenset({LeaseState.WAITING})
    ACCOUNT = frozenset(set(LeaseState) - {LeaseState.CLOSED})


@dataclass(frozen=True)
class Revocation:
    """One order to revoke: ``by`` is an actor of the trail; ``kept_session`` is the browser that goes on."""

    extent: Extent
    by: str
    reason: str
    kept_session: str | None = None


async def revoke(workbench: Workbench, user: User, order: Revocation) -> None:
    """End the sessions and tokens of ``user`` at once, then the leases of the order's extent; raises Unknown.

    The end of each lease is recorded before this returns; its container ends in the background.
    """
    _revoke_credentials(user, order)
    log.warning("user=%s state=revoked extent=%s by=%s", user.name, order.extent.name, order.by)
    if order.extent is Extent.SESSIONS:
        return
    leases = await asyncio.to_thread(workbench.ledger.live_leases)
    cause = Cause.USER if order.by == user.name else Cause.ADMIN
    for lease in leases:
        if lease.user == user.name and lease.state in order.extent.value:
            await workbench.controller.end_in_background(
                lease.id, cause, by=order.by, reason=order.reason
            )


def _revoke_credentials(user: User, order: Revocation) -> None:
    kept = set() if order.extent is Extent.ACCOUNT else select_server_tokens(user)
    for row in [*user.orm_user.api_tokens, *user.orm_user.oauth_codes]:
        is_kept_session = order.kept_session is not None and row.session_id == order.kept_session
        if not is_kept_session and not (isinstance(row, orm.APIToken) and row.id in kept):
            user.db.delete(row)
    user.orm_user.cookie_id = orm.new_token()
    user.db.commit()


def select_server_tokens(user: User) -> set[int]:
    """Return the ids of the tokens with which the user's servers reach the hub; a token's note proves nothing."""
    stored = [(row.state or {}).get("token_id") for row in user.orm_spawners.values()]
    tokens = [
        orm.APIToken.find(user.db, spawner.api_token)
        for spawner in user.spawners.values()
        if spawner.api_token
    ]
    running = [token.id for token in tokens if token is not None]
    return {id_ for id_ in [*stored, *running] if id_ is not None}
