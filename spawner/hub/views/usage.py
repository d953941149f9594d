"""Usage view: builds GPU-hours held and used, for pages, REST and CSV, within the viewer's scopes.

Every user sees their own hours; a scope for a group or for all users adds exactly those.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from spawner.hub.schema.records import UsageJson, UsageSumJson
from spawner.hub.workbench import Workbench
from spawner.model import Gpu, Unknown
from spawner.policy.formatting import format_gpu_name
from spawner.policy.usage import DAY_SECONDS, GroupBy, UsageSpan, UsageTotal, sum_usage, total
from spawner.serial_executor import SerialExecutor

MAX_DAYS = 366
DEFAULT_DAYS = 7
CHART_WIDTH, CHART_HEIGHT = 720.0, 160.0
_EPOCH = date(1970, 1, 1)
_NAMES = ("from", "to", "by")
_COLUMNS = tuple(UsageSumJson.__annotations__)
# a year of all users takes seconds of Python, which compete with the event loop: one query at a time
_executor = SerialExecutor("usage")


class UsageQueryError(Exception):
    """A usage query that is not valid; its text is one sentence for the user."""


@dataclass(frozen=True)
class UsageQuery:
    """The days from ``first`` to ``last``, both included and UTC, summed ``by`` user, group, GPU or day."""

    first: date
    last: date
    by: GroupBy


@dataclass(frozen=True)
class VisibleUsage:
    """The hours that a viewer may see: all, or those of some accounts and groups."""

    is_unrestricted: bool
    uids: frozenset[int]
    groups: frozenset[str]

    def filter(self, spans: Iterable[UsageSpan]) -> list[UsageSpan]:
        """Return the visible ``spans``; a span of another user keeps only its visible groups."""
        if self.is_unrestricted:
            return list(spans)
        visible = []
        for span in spans:
            if span.uid in self.uids:
                visible.append(span)
            elif not self.groups.isdisjoint(span.groups):
                groups = tuple(group for group in span.groups if group in self.groups)
                visible.append(replace(span, groups=groups))
        return visible


@dataclass(frozen=True)
class Bar:
    """One day of the chart, in units of its view box; ``title`` describes the day."""

    x: float
    width: float
    held_height: float
    used_height: float
    title: str
    tick: str


@dataclass(frozen=True)
class UsageView:
    """The result of one query: a row for each key, the total, and the days of the chart.

    ``notes`` adds text to a row's label by key, such as the UUID of a GPU.
    """

    query: UsageQuery
    rows: tuple[UsageTotal, ...]
    total: UsageTotal
    days: tuple[UsageTotal, ...]
    notes: Mapping[str, str]

    def as_json(self) -> UsageJson:
        """Return the result in the API's form."""
        return {
            "from": self.query.first.isoformat(),
            "to": self.query.last.isoformat(),
            "by": self.query.by,
            "rows": [{"key": row.key, "label": row.label, **_hours(row)} for row in self.rows],
            "sum": _hours(self.total),
        }

    def as_csv(self) -> str:
        """Return the rows as CSV; unmeasured hours are an empty field."""
        return write_csv(self.as_json())

    @property
    def top_hours(self) -> int:
        """The chart's upper bound in hours: 1, 2 or 5 times a power of ten, at least the busiest day; 0 if empty."""
        most = max((day.held_gpu_hours for day in self.days), default=0.0)
        if not most:
            return 0
        power = int(10 ** max(math.ceil(math.log10(most)) - 1, 0))
        return next(power * step for step in (1, 2, 5, 10) if most <= power * step)

    def bars(self) -> tuple[Bar, ...]:
        """Return the chart's bars, one for each day."""
        step = CHART_WIDTH / max(len(self.days), 1)
        scale = CHART_HEIGHT / self.top_hours if self.top_hours else 0.0
        every = max(1, -(-len(self.days) // 12))
        return tuple(
            Bar(
                x=round(i * step + step * 0.12, 2),
                width=round(step * 0.76, 2),
                held_height=round(day.held_gpu_hours * scale, 2),
                used_height=round((day.used_gpu_hours or 0.0) * scale, 2),
                title=_format_day(day),
                tick=day.key[5:] if i % every == 0 else "",
            )
            for i, day in enumerate(self.days)
        )


def parse_query(arguments: Mapping[str, Sequence[bytes]], today: date) -> UsageQuery:
    """Return the query in the ``arguments`` of a URL; raises UsageQueryError."""
    texts: dict[str, str] = {}
    for name, values in arguments.items():
        if name not in _NAMES:
            raise UsageQueryError(
                f"{name[:40]!r} is not a parameter of this page: use 'from', 'to' and 'by'."
            )
        if len(values) != 1:
            raise UsageQueryError(f"Give {name!r} once.")
        texts[name] = values[0].decode("utf-8", "replace")
    last = _read_date("to", texts.get("to"), today)
    first = _read_date("from", texts.get("from"), last - timedelta(days=DEFAULT_DAYS - 1))
    if not 0 <= (last - first).days < MAX_DAYS:
        raise UsageQueryError(
            f"Choose 1 to {MAX_DAYS} days: 'from' is the first day, 'to' the last."
        )
    by = texts.get("by", GroupBy.USER.value)
    if by not in {one.value for one in GroupBy}:
        raise UsageQueryError(
            f"Usage cannot be summed by {by[:40]!r}: choose {', '.join(GroupBy)}."
        )
    return UsageQuery(first, last, GroupBy(by))


async def build_usage_view(
    workbench: Workbench, query: UsageQuery, visible: VisibleUsage
) -> UsageView:
    """Return the result of ``query`` over the ``visible`` usage; raises Unknown."""
    since, until = _second(query.first), _second(query.last + timedelta(days=1))
    names: dict[str, Gpu] = {}
    if query.by is GroupBy.GPU:
        names = await _get_gpus_by_uuid(workbench)
    return await _executor(_build_view, workbench, query, visible, since, until, names)


def today_of(workbench: Workbench) -> date:
    """Return today (UTC) by the lease clock."""
    return datetime.fromtimestamp(workbench.clock(), UTC).date()


def write_csv(answer: Mapping[str, Any]) -> str:
    """Return ``answer``, the API's JSON, as CSV."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow([answer["by"], "key", *_COLUMNS])
    for row in answer["rows"]:
        hours = (row[column] for column in _COLUMNS)
        names = (_escape_formula(row["label"]), _escape_formula(row["key"]))
        table.writerow([*names, *("" if hour is None else hour for hour in hours)])
    return text.getvalue()


def _build_view(
    workbench: Workbench,
    query: UsageQuery,
    visible: VisibleUsage,
    since: float,
    until: float,
    names: Mapping[str, Gpu],
) -> UsageView:
    now = workbench.clock()
    uids = None if visible.is_unrestricted else visible.uids
    spans = visible.filter(
        workbench.ledger.spans(since=since, until=until, now=now, uids=uids, groups=visible.groups)
    )
    sums = sum_usage(spans, query.by)
    by_day = {one.key: one for one in map(_date_day, sum_usage(spans, GroupBy.DAY))}
    rows = tuple(map(_date_day, sums)) if query.by is GroupBy.DAY else sums
    whole = [query.first + timedelta(days=i) for i in range(_days(query))]
    days = (by_day.get(day.isoformat()) or _empty_sum(day) for day in whole)
    return UsageView(
        query=query,
        rows=tuple(_with_gpu_name(row, names) for row in rows),
        total=total(spans),
        days=tuple(days),
        notes={row.key: row.key for row in rows} if query.by is GroupBy.GPU else {},
    )


def _with_gpu_name(row: UsageTotal, names: Mapping[str, Gpu]) -> UsageTotal:
    gpu = names.get(row.key)
    return row if gpu is None else replace(row, label=format_gpu_name(gpu))


async def _get_gpus_by_uuid(workbench: Workbench) -> dict[str, Gpu]:
    try:
        return {gpu.uuid: gpu for gpu in await workbench.gpus.inventory()}
    except Unknown:
        return {}  # rows keep the UUID as their label


def _read_date(name: str, text: str | None, usual: date) -> date:
    if text is None:
        return usual
    is_plain = re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) is not None
    try:
        read = date.fromisoformat(text if is_plain else "")
        _ = read + timedelta(days=1)  # raises at the end of the calendar
        _ = read - timedelta(days=MAX_DAYS)
    except (ValueError, OverflowError):
        raise UsageQueryError(f"{name!r} must be a date such as {usual.isoformat()}.") from None
    return read


def _second(day: date) -> float:
    return float((day - _EPOCH).days * DAY_SECONDS)


def _days(query: UsageQuery) -> int:
    return (query.last - query.first).days + 1


def _date_day(one: UsageTotal) -> UsageTotal:
    day = (_EPOCH + timedelta(days=int(one.key))).isoformat()
    return replace(one, key=day, label=day)


def _empty_sum(day: date) -> UsageTotal:
    return UsageTotal(day.isoformat(), day.isoformat(), 0.0, None, 0.0)


def _hours(one: UsageTotal) -> UsageSumJson:
    used = one.used_gpu_hours
    return {
        "held_gpu_hours": round(one.held_gpu_hours, 4),
        "used_gpu_hours": None if used is None else round(used, 4),
        "unmeasured_gpu_hours": round(one.unmeasured_gpu_hours, 4),
    }


def _format_day(day: UsageTotal) -> str:
    used = "use unknown" if day.used_gpu_hours is None else f"{day.used_gpu_hours:.1f} used"
    return f"{day.label}: {day.held_gpu_hours:.1f} GPU-hours held, {used}"


def _escape_formula(text: str) -> str:
    """Return ``text`` escaped, so that a spreadsheet does not evaluate it as a formula."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text
