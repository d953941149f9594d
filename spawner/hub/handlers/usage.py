"""Page, CSV and REST API of GPU-hours held and used.

Every answer is cut to what the asker's scopes reach; a question that is not understood is one sentence.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.scopes import Scope
from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.doors import ApiHandler
from spawner.hub.identity import identify
from spawner.hub.views.usage import (
    UsageQuery,
    UsageQueryError,
    VisibleUsage,
    UsageView,
    parse_query,
    build_usage_view,
    today_of,
)
from spawner.hub.workbench import Workbench
from spawner.model import Unknown
from spawner.policy.usage import GroupBy


class _AnswersUsage(BaseHandler):  # type: ignore[misc]
    """What page, CSV and API have in common."""

    def initialize(self, get_workbench: Callable[[], Workbench]) -> None:
        """Take the parts from the configuration."""
        self._workbench = get_workbench()

    async def see(self) -> UsageView:
        """Return the answer to what the address asks, as far as the asker may see it."""
        reach = await self._reach()
        try:
            question = parse_query(self.request.query_arguments, today_of(self._workbench))
            return await build_usage_view(self._workbench, question, reach)
        except UsageQueryError as error:
            raise web.HTTPError(HTTPStatus.BAD_REQUEST.value, str(error)) from error
        except Unknown as error:
            raise web.HTTPError(
                HTTPStatus.SERVICE_UNAVAILABLE.value, f"Nobody knows the usage now: {error}"
            ) from error

    async def _reach(self) -> VisibleUsage:
        if not self.current_user:
            raise web.HTTPError(HTTPStatus.FORBIDDEN.value, "Missing or invalid credentials.")
        allowed = self.parsed_scopes.get(scopes.READ_USAGE)
        if Scope.ALL in (allowed, self.parsed_scopes.get(scopes.ADMIN)):
            return VisibleUsage(is_everybody=True, uids=frozenset(), groups=frozenset())
        if allowed is None:
            raise web.HTTPError(
                HTTPStatus.FORBIDDEN.value, f"This needs the scope {scopes.READ_USAGE}."
            )
        users = [self.find_user(name) for name in allowed.get("user", ())]
        identities = [identify(user) for user in users if user is not None]
        find = self._workbench.ledger.account_by_identity
        accounts = [await asyncio.to_thread(find, identity) for identity in identities]
        return VisibleUsage(
            is_everybody=False,
            uids=frozenset(account.uid for account in accounts if account is not None),
            groups=frozenset(allowed.get("group", ())),
        )


class UsagePage(_AnswersUsage):
    """``/hub/usage``: the table, the chart, and a way to the CSV."""

    @web.authenticated
    async def get(self) -> None:
        """Render the page; a question that is not understood is told on it."""
        error = None
        try:
            view = await self.see()
        except web.HTTPError as refused:
            if refused.status_code != HTTPStatus.BAD_REQUEST:
                raise
            self.set_status(refused.status_code)
            view, error = None, refused.get_message()
        page = await self.render_template(
            "usage.html",
            view=view,
            error=error,
            bys=[by.value for by in GroupBy],
            csv_query="" if view is None else _as_query(view.question),
        )
        self.finish(page)


class UsageCsv(_AnswersUsage):
    """``/hub/usage.csv``: the page's table for a spreadsheet."""

    @web.authenticated
    async def get(self) -> None:
        """Answer the rows."""
        view = await self.see()
        first, last = view.question.first, view.question.last
        self.set_header("Content-Type", "text/csv; charset=utf-8")
        self.set_header(
            "Content-Disposition",
            f'attachment; filename="gpu-hours-by-{view.question.by}-{first}-{last}.csv"',
        )
        self.finish(view.as_csv())


class UsageAPI(_AnswersUsage, ApiHandler):
    """``GET /hub/api/workbench/usage?from=&to=&by=&format=``."""

    async def get(self) -> None:
        """Answer the sums as JSON, or with ``format=csv`` for a spreadsheet."""
        formats = self.request.query_arguments.pop("format", [b"json"])
        if formats not in ([b"json"], [b"csv"]):
            raise web.HTTPError(
                HTTPStatus.BAD_REQUEST.value, "'format' must be 'json' or 'csv', and given once."
            )
        view = await self.see()
        if formats == [b"csv"]:
            self.set_header("Content-Type", "text/csv; charset=utf-8")
            self.finish(view.as_csv())
        else:
            self.finish(json.dumps(view.as_json()))


def usage_handlers(
    get_workbench: Callable[[], Workbench],
) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the routes below the hub's prefix."""
    parts = {"get_workbench": get_workbench}
    return [
        ("/usage", UsagePage, parts),
        (r"/usage\.csv", UsageCsv, parts),
        ("/api/workbench/usage", UsageAPI, parts),
    ]


def _as_query(question: UsageQuery) -> str:
    named = {"from": question.first, "to": question.last, "by": question.by.value}
    return urlencode(named)
