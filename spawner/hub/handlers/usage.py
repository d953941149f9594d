"""Page, CSV and REST API of GPU-hours held and used.

Every answer is limited to the users and groups of the viewer's scopes; a query that is not valid is one sentence.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from urllib.parse import urlencode

from jupyterhub.scopes import Scope
from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.api_base import ApiHandler, GetWorkbench, Route, WorkbenchHandler
from spawner.hub.handlers.operation import operation
from spawner.hub.identity import identify
from spawner.hub.schema.records import UsageJson, UsageSearch
from spawner.hub.views.usage import (
    UsageQuery,
    UsageQueryError,
    UsageView,
    VisibleUsage,
    build_usage_view,
    parse_query,
    today_of,
)
from spawner.policy.usage import GroupBy


class UsageHandlerBase(WorkbenchHandler):
    """Base of page, CSV and REST API: answers the query of the address within the viewer's scopes."""

    async def read_usage(self) -> UsageView:
        """Return the usage that the address asks for, within the viewer's scopes."""
        reach = await self._reach()
        try:
            question = parse_query(self.request.query_arguments, today_of(self.workbench))
            return await build_usage_view(self.workbench, question, reach)
        except UsageQueryError as error:
            raise web.HTTPError(HTTPStatus.BAD_REQUEST.value, str(error)) from error

    async def _reach(self) -> VisibleUsage:
        if not self.current_user:
            raise web.HTTPError(HTTPStatus.FORBIDDEN.value, "Missing or invalid credentials.")
        allowed = self.parsed_scopes.get(scopes.READ_USAGE)
        if Scope.ALL in (allowed, self.parsed_scopes.get(scopes.ADMIN)):
            return VisibleUsage(is_unrestricted=True, uids=frozenset(), groups=frozenset())
        if allowed is None:
            raise web.HTTPError(
                HTTPStatus.FORBIDDEN.value, f"This needs the scope {scopes.READ_USAGE}."
            )
        users = [self.find_user(name) for name in allowed.get("user", ())]
        identities = [identify(user) for user in users if user is not None]
        find = self.workbench.ledger.account_by_identity
        accounts = [await asyncio.to_thread(find, identity) for identity in identities]
        return VisibleUsage(
            is_unrestricted=False,
            uids=frozenset(account.uid for account in accounts if account is not None),
            groups=frozenset(allowed.get("group", ())),
        )


class UsagePage(UsageHandlerBase):
    """``/hub/usage``: the table, the chart, and a link to the CSV."""

    @web.authenticated
    async def get(self) -> None:
        """Render the page, with one sentence instead of the table for a query that is not valid."""
        error = None
        try:
            view = await self.read_usage()
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
            csv_query="" if view is None else _as_query(view.query),
        )
        self.finish(page)


class UsageCsv(UsageHandlerBase):
    """``/hub/usage.csv``: the page's table for a spreadsheet."""

    @web.authenticated
    async def get(self) -> None:
        """Answer the rows."""
        view = await self.read_usage()
        first, last = view.query.first, view.query.last
        self.set_header("Content-Type", "text/csv; charset=utf-8")
        self.set_header(
            "Content-Disposition",
            f'attachment; filename="gpu-hours-by-{view.query.by}-{first}-{last}.csv"',
        )
        self.finish(view.as_csv())


class UsageApiHandler(UsageHandlerBase, ApiHandler):
    """``GET /hub/api/workbench/usage?from=&to=&by=&format=``."""

    @operation(
        "readUsage",
        "Read GPU-hours held and used: one's own, or those within the scopes of the token.",
        scope=scopes.READ_USAGE,
        query=UsageSearch,
        answers="The hours.",
        answer=UsageJson,
        media=("text/csv",),
    )
    async def get(self) -> None:
        """Answer the sums as JSON, or with ``format=csv`` for a spreadsheet."""
        formats = self.request.query_arguments.pop("format", [b"json"])
        if formats not in ([b"json"], [b"csv"]):
            raise web.HTTPError(
                HTTPStatus.BAD_REQUEST.value, "'format' must be 'json' or 'csv', and given once."
            )
        view = await self.read_usage()
        if formats == [b"csv"]:
            self.set_header("Content-Type", "text/csv; charset=utf-8")
            self.finish(view.as_csv())
        else:
            self.finish(json.dumps(view.as_json()))


def usage_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes, below the hub's prefix."""
    options = {"get_workbench": get_workbench}
    return [
        ("/usage", UsagePage, options),
        (r"/usage\.csv", UsageCsv, options),
        ("/api/workbench/usage", UsageApiHandler, options),
    ]


def _as_query(question: UsageQuery) -> str:
    named = {"from": question.first, "to": question.last, "by": question.by.value}
    return urlencode(named)
