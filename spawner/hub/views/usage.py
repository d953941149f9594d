"""GPU-hours held and used as pages, REST and CSV show them, to those who may see them.

Everybody sees their own; whoever has the scope for a group or for everybody sees that too, and nothing beyond.
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

from spawner.hub.workbench import Workbench
from spawner.model import Gpu, Unknown
from spawner.serial_executor import SerialExecutor
from spawner.policy.usage import DAY_SECONDS, GroupBy, UsageSpan, UsageTotal, sum_usage, total
from spawner.policy.formatting import format_gpu_name

MAX_DAYS = 366
DEFAULT_DAYS = 7
CHART_WIDTH, CHART_HEIGHT = 720.0, 160.0
_EPOCH = date(1970, 1, 1)
_NAMES = ("from", "to", "by")
_COLUMNS = ("held_gpu_hours", "used_gpu_hours", "unmeasured_gpu_hours")
# everybody's year is seconds of Python, which the event loop has to share: one question at a time
_executor = SerialExecutor("usage")


class UsageQueryError(Exception):
    """A question that cannot be answered; the sentence is for whoever asked."""


@dataclass(frozen=True)
class UsageQuery:
    """What is asked: the days from ``first`` to ``last``, both included and UTC, added up ``by``."""

    first: date
    last: date
    by: GroupBy


@dataclass(frozen=True)
class VisibleUsage:
    """Whose hours somebody may see: everybody's, or those of accounts and of groups."""

    is_everybody: bool
    uids: frozenset[int]
    groups: frozenset[str]

    def cut(self, spans: Iterable[UsageSpan]) -> list[UsageSpan]:
        """Return what of ``spans`` may be seen; of others' groups only those that are in reach."""
        if self.is_everybody:
            return list(spans)
        seen = []
        for span in spans:
            if span.uid in self.uids:
                seen.append(span)
            elif not self.groups.isdisjoint(span.groups):
                groups = tuple(group for group in span.groups if group in self.groups)
                seen.append(replace(span, groups=groups))
        return seen


@dataclass(frozen=True)
class Bar:
    """One day of the chart, in the units of its view box; ``title`` is the day in words."""

    x: float
    width: float
    held_height: float
    used_height: float
    title: str
    tick: str


@dataclass(frozen=True)
class UsageView:
    """The answer: one row for each key, everything together, and the days for the chart.

    ``note`` is a word beside a row's label, such as the UUID of a GPU.
    """

    question: UsageQuery
    rows: tuple[UsageTotal, ...]
    total: UsageTotal
    days: tuple[UsageTotal, ...]
    notes: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return what the API says."""
        return {
            "from": self.question.first.isoformat(),
            "to": self.question.last.isoformat(),
            "by": self.question.by.value,
            "rows": [{"key": row.key, "label": row.label, **_hours(row)} for row in self.rows],
            "total": _hours(self.total),
        }

    def as_csv(self) -> str:
        """Return the rows for a spreadsheet; what nobody measured is an empty field."""
        return write_csv(self.as_json())

    @property
    def top_hours(self) -> int:
        """The hours at the chart's top: 1, 2 or 5 times a power of ten, at least the fullest day; 0 without any."""
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
    """Return what the ``arguments`` of an address ask; raises UsageQueryError."""
    texts: dict[str, str] = {}
    for name, values in arguments.items():
        if name not in _NAMES:
            raise UsageQueryError(
                f"{name[:40]!r} cannot be asked: choose only 'from', 'to' and 'by'."
            )
        if len(values) != 1:
            raise UsageQueryError(f"Give {name!r} once.")
        texts[name] = values[0].decode("utf-8", "replace")
    last = _read_date("to", texts.get("to"), today)
    first = _read_date("from", texts.get("from"), last - timedelta(days=DEFAULT_DAYS - 1))
    if not 0 <= (last - first).days < MAX_DAYS:
        raise UsageQueryError(f"Ask for 1 to {MAX_DAYS} days: 'from' is the first, 'to' the last.")
    by = texts.get("by", GroupBy.USER.value)
    if by not in {one.value for one in GroupBy}:
        raise UsageQueryError(f"{by[:40]!r} is nothing to add up by: choose {', '.join(GroupBy)}.")
    return UsageQuery(first, last, GroupBy(by))


async def build_usage_view(workbench: Workbench, question: UsageQuery, reach: VisibleUsage) -> UsageView:
    """Return the answer to ``question`` as far as it is in ``reach``; raises Unknown."""
    since, until = _second(question.first), _second(question.last + timedelta(days=1))
    names: dict[str, Gpu] = {}
    if question.by is GroupBy.GPU:
        names = await _get_gpus_by_uuid(workbench)
    return await _executor(_build_view, workbench, question, reach, since, until, names)


def today_of(workbench: Workbench) -> date:
    """Return the day on which it is now by the lease clock, UTC."""
    return datetime.fromtimestamp(workbench.clock(), UTC).date()


def write_csv(answer: Mapping[str, Any]) -> str:
    """Return what the API said as CSV."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow([answer["by"], "key", *_COLUMNS])
    for row in answer["rows"]:
        hours = (row[column] for column in _COLUMNS)
        words = (_escape_formula(row["label"]), _escape_formula(row["key"]))
        table.writerow([*words, *("" if hour is None else hour for hour in hours)])
    return text.getvalue()


def _build_view(
    workbench: Workbench,
    question: UsageQuery,
    reach: VisibleUsage,
    since: float,
    until: float,
    names: Mapping[str, Gpu],
) -> UsageView:
    now = workbench.clock()
    uids = None if reach.is_everybody else reach.uids
    spans = reach.cut(
        workbench.ledger.spans(since=since, until=until, now=now, uids=uids, groups=reach.groups)
    )
    sums = sum_usage(spans, question.by)
    by_day = {one.key: one for one in map(_date_day, sum_usage(spans, GroupBy.DAY))}
    rows = tuple(map(_date_day, sums)) if question.by is GroupBy.DAY else sums
    whole = [question.first + timedelta(days=i) for i in range(_days(question))]
    days = (by_day.get(day.isoformat()) or _empty_sum(day) for day in whole)
    return UsageView(
        question=question,
        rows=tuple(_with_gpu_name(row, names) for row in rows),
        total=total(spans),
        days=tuple(days),
        notes={row.key: row.key for row in rows} if question.by is GroupBy.GPU else {},
    )


def _with_gpu_name(row: UsageTotal, names: Mapping[str, Gpu]) -> UsageTotal:
    gpu = names.get(row.key)
    return row if gpu is None else replace(row, label=format_gpu_name(gpu))


async def _get_gpus_by_uuid(workbench: Workbench) -> dict[str, Gpu]:
    try:
        return {gpu.uuid: gpu for gpu in await workbench.gpus.inventory()}
    except Unknown:
        return {}  # only the names are missing then


def _read_date(name: str, text: str | None, usual: date) -> date:
    if text is None:
        return usual
    is_plain = re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) is not None
    try:
        read = date.fromisoformat(text if is_plain else "")
        _ = read + timedelta(days=1)  # the calendar has an end
        _ = read - timedelta(days=MAX_DAYS)
    except (ValueError, OverflowError):
        raise UsageQueryError(f"{name!r} must be a day such as {usual.isoformat()}.") from None
    return read


def _second(day: date) -> float:
    return float((day - _EPOCH).days * DAY_SECONDS)


def _days(question: UsageQuery) -> int:
    return (question.last - question.first).days + 1


def _date_day(one: UsageTotal) -> UsageTotal:
    day = (_EPOCH + timedelta(days=int(one.key))).isoformat()
    return replace(one, key=day, label=day)


def _empty_sum(day: date) -> UsageTotal:
    return UsageTotal(day.isoformat(), day.isoformat(), 0.0, None, 0.0)


def _hours(one: UsageTotal) -> dict[str, float | None]:
    hours = {column: getattr(one, column) for column in _COLUMNS}
    return {name: None if hour is None else round(hour, 4) for name, hour in hours.items()}


def _format_day(day: UsageTotal) -> str:
    used = "use unknown" if day.used_gpu_hours is None else f"{day.used_gpu_hours:.1f} used"
    return f"{day.label}: {day.held_gpu_hours:.1f} GPU-hours held, {used}"


def _escape_formula(text: str) -> str:
    """Return ``text`` as no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text
