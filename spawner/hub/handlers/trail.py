"""Page and REST API of the audit trail: search it page by page, or stream all of it as CSV or JSON lines.

Only admins, and holders of ``custom:workbench:read:trail``, read it. A file is sent in chunks while it is read.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import require
from spawner.hub.handlers.api_base import (
    ApiHandler,
    GetWorkbench,
    Route,
    WorkbenchHandler,
    bad_request,
)
from spawner.hub.handlers.operation import operation
from spawner.hub.schema.records import MAX_ID, TrailEntryJson, TrailPageJson, TrailSearch
from spawner.hub.views.timestamps import Timestamp
from spawner.hub.views.trail import (
    ACTION_WORDS,
    describe_action,
    explain,
    name_actor,
    name_subject,
)
from spawner.ledger.trail import CHUNK, StoredEntry, TrailAction, TrailFilter

PAGE_ENTRIES = 50
COLUMNS = tuple(TrailEntryJson.__annotations__)
FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}
_FILTERS = ("actor", "action", "subject", "text", "since", "until")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class TrailHandlerBase(WorkbenchHandler):
    """Base of page, file and REST API: reads the search of the address, and streams a file."""

    def _read_search(self) -> TrailFilter:
        """Return the search of the address; raises a 400 with one sentence."""
        given = self._given()
        action = given.get("action")
        if action is not None and action not in list(TrailAction):
            raise bad_request(f"There is no action {action[:40]!r}: {', '.join(TrailAction)}.")
        return TrailFilter(
            actor=given.get("actor"),
            action=None if action is None else TrailAction(action),
            subject=given.get("subject"),
            text=given.get("text"),
            since=self._read_time(given.get("since")),
            until=self._read_time(given.get("until")),
        )

    def _given(self) -> dict[str, str]:
        given = {name: self.get_argument(name, "") for name in _FILTERS}
        return {name: text for name, text in given.items() if text}

    def _read_time(self, text: str | None) -> float | None:
        """Return ``text`` as a time of the lease clock; without a time zone it is UTC."""
        if text is None:
            return None
        try:
            at = datetime.fromisoformat(text)
            wall = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError) as error:
            raise bad_request(
                f"{text[:40]!r} is no time: give one such as 2026-11-23T14:30Z."
            ) from error
        return wall - self.workbench.clock.to_wall(0.0)

    def _read_id(self, name: str) -> int | None:
        text = self.get_argument(name, "")
        if not text:
            return None
        is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_ID))
        if not is_number or int(text) > MAX_ID:
            raise bad_request(f"{text[:40]!r} is no id of an entry: take it from 'next'.")
        return int(text)

    async def _read_page(self) -> tuple[tuple[StoredEntry, ...], int | None]:
        """Return one page, and the ``before`` of the next page, None after the last."""
        search, before_id = self._read_search(), self._read_id("before")
        found = await self._read(search, before_id, PAGE_ENTRIES + 1)
        return found[:PAGE_ENTRIES], found[PAGE_ENTRIES - 1].id if len(
            found
        ) > PAGE_ENTRIES else None

    async def _read(
        self, search: TrailFilter, before_id: int | None, limit: int
    ) -> tuple[StoredEntry, ...]:
        return await asyncio.to_thread(
            self.workbench.ledger.trail, search, before_id=before_id, limit=limit
        )

    async def _stream(self, kind: str) -> None:
        """Send all entries of the search, some hundred at a time."""
        search, before_id = self._read_search(), self._read_id("before")
        chunk = await self._read(search, before_id, CHUNK)
        self.set_header("Content-Type", FORMATS[kind])
        self.set_header("Content-Disposition", f'attachment; filename="trail.{kind}"')
        if kind == "csv":
            self.write(_as_csv([COLUMNS]))
        while chunk:
            rows = [self._as_json(written) for written in chunk]
            if kind == "csv":
                self.write(_as_csv([_cells(row) for row in rows]))
            else:
                self.write("".join(json.dumps(row) + "\n" for row in rows))
            await self.flush()
            chunk = await self._read(search, chunk[-1].id, CHUNK)
        self.finish()

    def _as_json(self, written: StoredEntry) -> TrailEntryJson:
        entry = written.entry
        return {
            "id": written.id,
            "at": Timestamp(self.workbench.clock.to_wall(entry.at)).iso,
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "before": None if entry.before is None else dict(entry.before),
            "after": None if entry.after is None else dict(entry.after),
            "reason": entry.reason,
        }


class AuditPage(TrailHandlerBase):
    """``/hub/audit``: shows the trail, newest first, with a search form."""

    @web.authenticated
    async def get(self) -> None:
        """Render one page."""
        require(self, scopes.READ_TRAIL, scopes.ADMIN)
        error: str | None = None
        found: tuple[StoredEntry, ...] = ()
        next_id: int | None = None
        try:
            found, next_id = await self._read_page()
        except web.HTTPError as refusal:
            if refusal.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            error = refusal.get_message()
        given = self._given()
        self.finish(
            await self.render_template(
                "audit.html",
                entries=[{**self._as_json(written), **_in_words(written)} for written in found],
                given=given,
                error=error,
                action_words=ACTION_WORDS,
                query=urlencode(given),
                older=None if next_id is None else urlencode({**given, "before": next_id}),
                is_later_page=bool(self.get_argument("before", "")),
            )
        )


class AuditFile(TrailHandlerBase):
    """``/hub/audit/trail.csv`` and ``trail.jsonl``: all entries of the page's search."""

    @web.authenticated
    async def get(self, kind: str) -> None:
        """Send the file."""
        require(self, scopes.READ_TRAIL, scopes.ADMIN)
        await self._stream(kind)


class TrailApiHandler(TrailHandlerBase, ApiHandler):
    """``GET /hub/api/workbench/trail``."""

    @operation(
        "readTrail",
        "Search the audit trail, newest first.",
        scope=scopes.READ_TRAIL,
        query=TrailSearch,
        answers="A page of entries, or all of them as a file.",
        answer=TrailPageJson,
        media=("text/csv", "application/jsonl"),
    )
    async def get(self) -> None:
        """Answer one page, with the ``before`` of the next as ``next``; ``format`` answers all entries as a file."""
        require(self, scopes.READ_TRAIL, scopes.ADMIN)
        after_id = self._read_id("after")
        if after_id is not None:
            await self._answer_after(after_id)
            return
        kind = self.get_argument("format", "json")
        if kind in FORMATS:
            await self._stream(kind)
            return
        if kind != "json":
            raise bad_request(f"There is no format {kind[:40]!r}: json, {', '.join(FORMATS)}.")
        found, next_id = await self._read_page()
        entries = [self._as_json(written) for written in found]
        page: TrailPageJson = {"entries": entries, "next": next_id}
        self.finish(json.dumps(page))

    async def _answer_after(self, after_id: int) -> None:
        """Answer the next entries, oldest first; ``next`` is the ``after`` of the following request."""
        if self._given() or self.get_argument("before", "") or self.get_argument("format", ""):
            raise bad_request("'after' follows the whole trail: give no other parameter.")
        found = await asyncio.to_thread(self.workbench.ledger.trail_after, after_id)
        entries = [self._as_json(written) for written in found]
        last = found[-1].id if found else after_id
        page: TrailPageJson = {"entries": entries, "next": last}
        self.finish(json.dumps(page))


def trail_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes, below the hub's prefix."""
    options = {"get_workbench": get_workbench}
    return [
        ("/audit", AuditPage, options),
        ("/audit/trail[.](csv|jsonl)", AuditFile, options),
        ("/api/workbench/trail", TrailApiHandler, options),
    ]


def _in_words(written: StoredEntry) -> dict[str, str | None]:
    return {
        "who": name_actor(written),
        "did": describe_action(written),
        "to": name_subject(written),
        "why": explain(written),
    }


def _cells(entry: Mapping[str, Any]) -> list[str]:
    return [_cell(entry[name]) for name in COLUMNS]


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # a spreadsheet would evaluate it as a formula
    return f"'{text}" if text.startswith(_FORMULA) else text


def _as_csv(rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()
