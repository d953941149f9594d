"""Page and REST API of the quotas: read and change rows, and read the effective quota of a user.

Every user reads their own rows; the scope of a group adds those of the group and its members. Only admins, and holders
of ``custom:workbench:quotas``, change a row.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus

from tornado import web

from spawner.hub.handlers import scopes
from spawner.hub.handlers.access import actor_of, require
from spawner.hub.handlers.api_base import (
    ApiHandler,
    GetWorkbench,
    Route,
    WorkbenchApiHandler,
    WorkbenchHandler,
    bad_request,
    read_reason,
)
from spawner.hub.handlers.operation import operation
from spawner.hub.handlers.subjects import PLURALS, as_file, get_subject, name_rows
from spawner.hub.identity import quota_subject
from spawner.hub.schema.quotas import (
    MAX_QUOTA_REASON_CHARACTERS,
    ROW_WITH_REASON,
    DryRun,
    EffectiveQuotaJson,
    QuotaChangeJson,
    QuotaChangesJson,
    QuotaReplacementBody,
    QuotaRowJson,
    QuotasJson,
    WithReason,
)
from spawner.hub.views.quota import QuotaView, build_quota_view
from spawner.ledger.quotas import Change, diff_quotas
from spawner.model import QuotaRowError
from spawner.policy.quota_rows import (
    DEFAULT,
    EMPTY_ROW,
    QuotaRow,
    Subject,
    SubjectKind,
    parse_quota_row,
    quota_fields,
)


class QuotaHandlerBase(WorkbenchHandler):
    """Base of page and REST API: reads the rows that the viewer's scopes reach."""

    def _may_see(self, subject: Subject) -> bool:
        if self.has_scope(scopes.ADMIN) or self.has_scope(scopes.READ_QUOTAS):
            return True
        if subject == DEFAULT:
            return scopes.READ_QUOTAS in self.parsed_scopes
        return bool(self.has_scope(f"{scopes.READ_QUOTAS}!{subject.kind.value}={subject.name}"))

    async def _read_rows(self) -> dict[Subject, QuotaRow]:
        """Return the rows within the viewer's scopes."""
        rows = await asyncio.to_thread(self.workbench.ledger.quota_rows)
        named = name_rows(self.db, rows)
        return {subject: limits for subject, limits in named.items() if self._may_see(subject)}

    def _require_some(self) -> None:
        if not self.current_user or scopes.READ_QUOTAS not in self.parsed_scopes:
            require(self, scopes.READ_QUOTAS, scopes.ADMIN)


class QuotasPage(QuotaHandlerBase):
    """``/hub/quotas``: shows rows, with a form for admins, and the effective quota of one user."""

    @web.authenticated
    async def get(self) -> None:
        """Render the page; ``?user=`` names the user of the effective quota."""
        self._require_some()
        me = self.current_user
        name = self.get_argument("user", "") or me.name
        view, error = await self._build_view_of(name)
        rows = await self._read_rows()
        may_edit = self.has_scope(scopes.QUOTAS) or self.has_scope(scopes.ADMIN)
        groups = [one for one in rows if one.kind is SubjectKind.GROUP]
        page = await self.render_template(
            "quotas.html",
            view=view,
            error=error,
            looked_up=name,
            rows={DEFAULT: rows.get(DEFAULT, EMPTY_ROW), **rows},
            sees_others=may_edit or bool(groups) or self.has_scope(scopes.READ_QUOTAS),
            may_edit=may_edit,
            fields=quota_fields(),
            releases=list(self.workbench.offered.releases),
            settings_quota=self.workbench.settings.quota,
        )
        self.finish(page)

    async def _build_view_of(self, name: str) -> tuple[QuotaView | None, str | None]:
        """Return the quota of the user ``name``, or the reason why it is not shown."""
        if not self._may_see(Subject(SubjectKind.USER, name, name)):
            return None, f"You cannot see the quota of {name[:40]!r}."
        user = self.find_user(name)
        if user is None:
            return None, f"There is no user {name[:40]!r}."
        return await build_quota_view(self.workbench, quota_subject(user)), None


class QuotasHandler(QuotaHandlerBase, WorkbenchApiHandler):
    """``/hub/api/workbench/quotas``: all rows, in the form of a quota file."""

    @operation(
        "readQuotas",
        "Read all rows within the scopes of the token, as a quota file.",
        scope=scopes.READ_QUOTAS,
        answers="The rows.",
        answer=QuotasJson,
    )
    async def get(self) -> None:
        """Answer all rows within the viewer's scopes."""
        self._require_some()
        answer: QuotasJson = {"quotas": as_file(await self._read_rows())}
        self.finish(json.dumps(answer))

    @operation(
        "replaceQuotas",
        "Replace all rows by those of a quota file.",
        scope=scopes.QUOTAS,
        body=QuotaReplacementBody,
        query=DryRun,
        answers="The changes.",
        answer=QuotaChangesJson,
        refusals=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    )
    async def post(self) -> None:
        """Replace all rows by ``quotas`` and answer the changes; ``?dry-run`` answers them and changes nothing.

        A body with the ``changes`` of a dry run is refused if the changes are others by now.
        """
        require(self, scopes.QUOTAS, scopes.ADMIN)
        body = self.read_as(QuotaReplacementBody)
        agree = _require_same_changes(body.changes)
        wanted = self._parse_file(body.quotas)
        reason = read_reason(body.reason, MAX_QUOTA_REASON_CHARACTERS)
        if self.get_argument("dry-run", None) is None:
            changes = await asyncio.to_thread(
                self.workbench.ledger.set_quotas,
                wanted,
                by=actor_of(self),
                reason=reason,
                now=self.workbench.clock(),
                whole=True,
                agree=agree,
            )
        else:
            before = await asyncio.to_thread(self.workbench.ledger.quota_rows)
            changes = diff_quotas(before, {**dict.fromkeys(before), **wanted})
            agree(changes)
        answer: QuotaChangesJson = {"changes": [_as_json(change) for change in changes]}
        self.finish(json.dumps(answer))

    def _parse_file(self, file: object) -> dict[Subject, QuotaRow]:
        if not isinstance(file, dict):
            raise bad_request(QuotaReplacementBody.sentence)
        unknown = next((key for key in file if key not in ("default", *PLURALS)), None)
        if unknown is not None:
            raise bad_request(f"{unknown[:40]!r} is no part of a quota file.")
        wanted = {DEFAULT: self._parse_row(DEFAULT, file.get("default", {}))}
        for plural in PLURALS:
            rows = file.get(plural, {})
            if not isinstance(rows, dict):
                raise bad_request(f"{plural!r} must be an object of rows by name.")
            for name, row in rows.items():
                subject = get_subject(self.db, plural, name)
                wanted[subject] = self._parse_row(subject, row)
        return wanted

    def _parse_row(self, subject: Subject, row: object) -> QuotaRow:
        try:
            return parse_quota_row(row, subject.kind, self.workbench.offered.releases)
        except QuotaRowError as error:
            raise bad_request(f"The row of {subject} is not valid: {error}") from error


class QuotaRowHandler(QuotaHandlerBase, ApiHandler):
    """``/hub/api/workbench/quotas/default``, ``…/groups/<name>`` and ``…/users/<name>``: one row."""

    @operation(
        "readQuota",
        "Read one row.",
        scope=scopes.READ_QUOTAS,
        answers="The row; fields that are not set are left out.",
        answer=QuotaRowJson,
        refusals=(HTTPStatus.NOT_FOUND,),
    )
    async def get(self, kind: str, name: str = "") -> None:
        """Answer the row; an empty object where there is none."""
        self._require_some()
        subject = self._subject_of(kind, name, must_see=True)
        rows = await asyncio.to_thread(self.workbench.ledger.quota_rows)
        self.finish(json.dumps(rows.get(subject, EMPTY_ROW).as_json()))

    @operation(
        "setQuota",
        "Replace one row.",
        scope=scopes.QUOTAS,
        body_schema=ROW_WITH_REASON,
        answers="The row.",
        answer=QuotaRowJson,
        refusals=(HTTPStatus.NOT_FOUND,),
    )
    async def put(self, kind: str, name: str = "") -> None:
        """Replace the row by the body; the trail keeps its ``reason``."""
        require(self, scopes.QUOTAS, scopes.ADMIN)
        subject, sent = self._subject_of(kind, name), self.get_json_body()
        if sent is None:
            raise bad_request('Send the row as an object such as {"max_gpus": 2}.')
        body = dict(sent)
        reason = read_reason(body.pop("reason", None), MAX_QUOTA_REASON_CHARACTERS)
        try:
            limits = parse_quota_row(body, subject.kind, self.workbench.offered.releases)
        except QuotaRowError as error:
            raise bad_request(str(error)) from error
        await self._set(subject, limits, reason)
        self.finish(json.dumps(limits.as_json()))

    @operation(
        "clearQuota",
        "Delete one row.",
        scope=scopes.QUOTAS,
        query=WithReason,
        answers="It is deleted.",
        status=HTTPStatus.NO_CONTENT,
        refusals=(HTTPStatus.NOT_FOUND,),
    )
    async def delete(self, kind: str, name: str = "") -> None:
        """Delete the row; the trail keeps ``?reason=``."""
        require(self, scopes.QUOTAS, scopes.ADMIN)
        subject = self._subject_of(kind, name)
        reason = self.get_argument("reason", None, strip=False)
        await self._set(subject, None, read_reason(reason, MAX_QUOTA_REASON_CHARACTERS))
        self.set_status(HTTPStatus.NO_CONTENT)

    def _subject_of(self, kind: str, name: str, *, must_see: bool = False) -> Subject:
        if kind == "default":
            return DEFAULT
        if must_see and not self._may_see(Subject(PLURALS[kind], name, name)):
            raise web.HTTPError(HTTPStatus.FORBIDDEN, f"You cannot see the quota of {name[:40]!r}.")
        return get_subject(self.db, kind, name)

    async def _set(self, subject: Subject, limits: QuotaRow | None, reason: str | None) -> None:
        await asyncio.to_thread(
            self.workbench.ledger.set_quotas,
            {subject: limits},
            by=actor_of(self),
            reason=reason,
            now=self.workbench.clock(),
        )


class EffectiveQuotaHandler(QuotaHandlerBase, ApiHandler):
    """``GET /hub/api/workbench/quotas/users/<name>/effective``."""

    @operation(
        "readEffectiveQuota",
        "Read the effective quota of a user, the source of each field, and requests that are refused now.",
        scope=scopes.READ_QUOTAS,
        answers="The effective quota.",
        answer=EffectiveQuotaJson,
        refusals=(HTTPStatus.NOT_FOUND,),
    )
    async def get(self, name: str) -> None:
        """Answer the user's effective quota, the source of each field, and requests that are refused now."""
        require(self, f"{scopes.READ_QUOTAS}!user={name}", scopes.ADMIN)
        get_subject(self.db, "users", name)
        view = await build_quota_view(self.workbench, quota_subject(self.find_user(name)))
        self.finish(json.dumps(view.as_json()))


def quota_handlers(get_workbench: GetWorkbench) -> list[Route]:
    """Return the routes, below the hub's prefix."""
    options = {"get_workbench": get_workbench}
    return [
        ("/quotas", QuotasPage, options),
        ("/api/workbench/quotas", QuotasHandler, options),
        ("/api/workbench/quotas/(default)", QuotaRowHandler, options),
        ("/api/workbench/quotas/(groups|users)/([^/]+)", QuotaRowHandler, options),
        ("/api/workbench/quotas/users/([^/]+)/effective", EffectiveQuotaHandler, options),
    ]


def _require_same_changes(
    shown: object,
) -> Callable[[tuple[Change, ...]], None]:
    """Return a check that refuses changes other than those ``shown`` by a dry run; None allows any change."""
    if shown is not None and not isinstance(shown, list):
        raise bad_request("'changes' must be what a dry run answered.")

    def agree(changes: tuple[Change, ...]) -> None:
        if shown is not None and shown != [_as_json(change) for change in changes]:
            raise web.HTTPError(
                HTTPStatus.CONFLICT,
                "The quotas have changed since the dry run: run it again.",
            )

    return agree


def _as_json(change: Change) -> QuotaChangeJson:
    return {
        "subject": str(change.subject),
        "before": None if change.before is None else change.before.as_json(),
        "after": None if change.after is None else change.after.as_json(),
    }
