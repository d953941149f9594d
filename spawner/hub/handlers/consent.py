"""Consent page: lets a browser into a server or service; the trail records whose server another user opened.

JupyterHub answers a browser with an OAuth code; without the trail's entry no code leaves the hub.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from jupyterhub import orm
from jupyterhub.apihandlers.auth import OAuthAuthorizeHandler
from tornado import web

from spawner.hub.handlers.access import actor_of
from spawner.hub.handlers.api_base import WorkbenchHandler
from spawner.ledger.trail import TrailAction, TrailEntry


class ConsentPage(WorkbenchHandler, OAuthAuthorizeHandler):  # type: ignore[misc]
    """``/hub/api/oauth2/authorize``."""

    @web.authenticated
    async def get(self) -> None:
        """Show the page, or answer with a code where no consent is needed."""
        await super().get()
        await self._record_opening()

    @web.authenticated
    async def post(self) -> None:
        """Answer with a code."""
        # JupyterHub's method is synchronous, and its wrapper returns None
        super().post()
        await self._record_opening()

    async def _record_opening(self) -> None:
        client = self.get_query_argument("client_id", "")
        found = self.db.query(orm.OAuthClient).filter_by(identifier=client).first()
        server = None if found is None else found.spawner
        is_code = not self._finished and self.get_status() == HTTPStatus.FOUND
        if not is_code or server is None or server.user.name == self.current_user.name:
            return
        entry = TrailEntry(
            self.workbench.clock(),
            actor_of(self),
            TrailAction.SERVER_OPENED,
            f"user {server.user.name}",
            after={"server": server.name},
        )
        await asyncio.to_thread(self.workbench.ledger.record_entry, entry)
