"""Quota rows: parses rows and resolves them to the effective quota of one user.

Each field resolves separately: the user's row first, then the most generous group row, the default row, the settings.
An empty field means "not set in this row". The total of a group limits every member.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from spawner.model import Cap, Quota, QuotaRowError
from spawner.policy.formatting import format_gpu_count, format_hours
from spawner.policy.options import MAX_GPUS, MAX_HOURS, MIN_HOURS

MAX_GPU_HOURS = 10_000_000
MAX_WINDOW_DAYS = 366
MAX_PRIORITY = 100


class SubjectKind(StrEnum):
    """Kind of a row's subject."""

    DEFAULT = "default"
    GROUP = "group"
    USER = "user"


@dataclass(frozen=True)
class Subject:
    """Subject of a row: all users, the group ``key``, or the user with the identity ``key``.

    ``name`` is the display name. A new user with a deleted user's name is another subject.
    """

    kind: SubjectKind
    key: str = ""
    name: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Return ``"default"``, ``"group vision"`` or ``"user alice"``."""
        if self.kind is SubjectKind.DEFAULT:
            return self.kind.value
        return f"{self.kind.value} {self.name or self.key}"


DEFAULT = Subject(SubjectKind.DEFAULT)


def group(name: str) -> Subject:
    """Return the hub's group ``name`` as a subject."""
    return Subject(SubjectKind.GROUP, name, name)


@dataclass(frozen=True)
class QuotaField:
    """One field of a quota row: its range, and its words for form, command line and documents.

    ``kind`` is int, float or list (of texts). ``label`` is its name in the form, ``head`` in the table of the command
    line. ``bounds`` says what it limits.
    ``generosity`` orders the rows of a user's groups; None for a field that goes with another.
    """

    name: str
    kind: type
    least: float
    most: float
    label: str
    head: str
    bounds: str
    generosity: Callable[[QuotaRow], Any] | None
    is_for_groups: bool = False


def _declare(
    kind: type,
    least: float,
    most: float,
    *,
    label: str,
    head: str,
    bounds: str,
    generosity: Callable[[QuotaRow], Any] | None = None,
    is_for_groups: bool = False,
) -> Any:  # noqa: ANN401 - as dataclasses.field
    words = {"label": label, "head": head, "bounds": bounds}
    details = {"generosity": generosity, "is_for_groups": is_for_groups}
    metadata = {"kind": kind, "least": least, "most": most, **words, **details}
    return field(default=None, metadata=metadata)


@dataclass(frozen=True)
class QuotaRow:
    """One row of the quotas, and the one declaration of its fields; an empty field means "not set in this row".

    ``gpu_hours`` applies to every period of ``window_days`` days, so both are set or neither is.
    """

    max_gpus: int | None = _declare(
        int,
        0,
        MAX_GPUS,
        label="GPUs at once",
        head="GPUS",
        bounds="GPUs that a user holds or waits for at once; a MIG instance counts as one",
        generosity=lambda row: row.max_gpus,
    )
    gpu_hours: float | None = _declare(
        float,
        0,
        MAX_GPU_HOURS,
        label="GPU-hours",
        head="GPU-HOURS",
        bounds="GPU-hours held in any window of `window_days` days",
        generosity=lambda row: ((row.gpu_hours or 0.0) / (row.window_days or 1), row.gpu_hours),
    )
    window_days: int | None = _declare(
        int,
        1,
        MAX_WINDOW_DAYS,
        label="in any … days",
        head="DAYS",
        bounds="length of the window of `gpu_hours`, in days",
    )
    max_lease_hours: float | None = _declare(
        float,
        MIN_HOURS,
        MAX_HOURS,
        label="Hours at a time",
        head="LEASE-HOURS",
        bounds="hours of a lease, counted from its grant, and again from each extension",
        generosity=lambda row: row.max_lease_hours,
    )
    priority: int | None = _declare(
        int,
        -MAX_PRIORITY,
        MAX_PRIORITY,
        label="Priority",
        head="PRIORITY",
        bounds="order in the queue: a higher priority comes first",
        generosity=lambda row: row.priority,
    )
    total_gpus: int | None = _declare(
        int,
        0,
        MAX_GPUS,
        label="GPUs of all members",
        head="TOTAL",
        bounds="groups only: GPUs that all members together hold or wait for",
        is_for_groups=True,
    )
    releases: tuple[str, ...] | None = _declare(
        list,
        1,
        math.inf,
        label="Releases",
        head="RELEASES",
        bounds="releases that may be started, with or without GPUs",
        generosity=lambda row: len(row.releases or ()),
    )

    def as_json(self) -> dict[str, Any]:
        """Return the fields that this row sets."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["releases"] = None if self.releases is None else list(self.releases)
        return {name: value for name, value in values.items() if value is not None}


@functools.cache
def quota_fields() -> tuple[QuotaField, ...]:
    """Return the declaration of every field, in the order of forms and tables."""
    return tuple(QuotaField(one.name, **one.metadata) for one in fields(QuotaRow))


QuotaRows = Mapping[Subject, QuotaRow]
EMPTY_ROW = QuotaRow()


@dataclass(frozen=True)
class EffectiveQuota:
    """Quota of one user, with the row that sets each field (None: the settings)."""

    quota: Quota
    sources: Mapping[str, Subject | None]


def resolve_quota(
    rows: QuotaRows, user: Subject, groups: Iterable[str], settings: Quota
) -> EffectiveQuota:
    """Return the quota of ``user``, a member of ``groups``; ``settings`` supply every field that no row sets."""
    of_user = [group(name) for name in groups]
    totals = ((one.key, _row(rows, one).total_gpus) for one in of_user)
    caps = (Cap(key, total) for key, total in totals if total is not None)
    sources: dict[str, Subject | None] = {}
    values: dict[str, Any] = {}
    for name, generosity in _resolved_fields().items():
        subject = _select_subject(rows, name, user, of_user, generosity)
        sources[name] = subject
        values[name] = getattr(settings if subject is None else rows[subject], name)
    hours = sources["gpu_hours"]
    values["window_days"] = (settings if hours is None else rows[hours]).window_days
    values["releases"] = _join_releases(rows, sources["releases"], of_user)
    return EffectiveQuota(Quota(**values, caps=tuple(caps)), sources)


def _row(rows: QuotaRows, subject: Subject) -> QuotaRow:
    return rows.get(subject, EMPTY_ROW)


def _select_subject(
    rows: QuotaRows,
    name: str,
    user: Subject,
    groups: Sequence[Subject],
    generosity: Callable[[QuotaRow], Any],
) -> Subject | None:
    """Return the subject whose row sets the field ``name``, or None if no row does."""
    if getattr(_row(rows, user), name) is not None:
        return user
    setting = [one for one in groups if getattr(_row(rows, one), name) is not None]
    if setting:
        return max(setting, key=lambda one: generosity(rows[one]))
    return DEFAULT if getattr(_row(rows, DEFAULT), name) is not None else None


def _resolved_fields() -> dict[str, Callable[[QuotaRow], Any]]:
    """Return the generosity of each field that is resolved on its own."""
    return {one.name: one.generosity for one in quota_fields() if one.generosity is not None}


def _join_releases(
    rows: QuotaRows, source: Subject | None, groups: Sequence[Subject]
) -> tuple[str, ...] | None:
    if source is None:
        return None
    if source.kind is not SubjectKind.GROUP:
        return rows[source].releases
    # the releases of all groups that set this field, each once
    allowed = (name for one in groups for name in _row(rows, one).releases or ())
    return tuple(dict.fromkeys(allowed))


# --- explanation for pages and commands


@dataclass(frozen=True)
class FieldExplanation:
    """One field of a quota in words: ``what`` is its value, ``why`` names the row that sets it."""

    field: str
    what: str
    why: str


def explain_quota(
    effective: EffectiveQuota, rows: QuotaRows, user: Subject, groups: Sequence[str]
) -> tuple[FieldExplanation, ...]:
    """Return every field of the user's quota with its source, such as "2 GPUs at once", "from group vision"."""
    explained = [
        FieldExplanation(
            name,
            _format_field(name, effective.quota),
            _format_source(name, effective, rows, user, groups),
        )
        for name in _resolved_fields()
    ]
    for cap in effective.quota.caps:
        what = f"{format_gpu_count(cap.total_gpus)} among all members of group {cap.group}"
        explained.append(
            FieldExplanation("total_gpus", what, f"from group {cap.group}, which binds each member")
        )
    return tuple(explained)


def _format_field(name: str, quota: Quota) -> str:
    value = getattr(quota, name)
    if name == "max_gpus":
        return "any number of GPUs" if value is None else f"{format_gpu_count(value)} at once"
    if name == "gpu_hours":
        if value is None:
            return "any number of GPU-hours"
        days = f"{quota.window_days} days" if quota.window_days != 1 else "day"
        return f"{value:g} GPU-hours in any {days}"
    if name == "max_lease_hours":
        return f"{format_hours(value)} at a time"
    if name == "priority":
        return f"priority {value} in the queue" if value else "normal priority in the queue"
    return "every release" if value is None else f"releases {', '.join(value)}"


def _format_source(
    name: str, effective: EffectiveQuota, rows: QuotaRows, user: Subject, groups: Sequence[str]
) -> str:
    source = effective.sources[name]
    if source == user:
        return "from the user's own row"
    parts = ["from the settings" if source is None else f"from {_format_row_name(source)}"]
    for other in groups:
        if source != group(other):
            value = getattr(_row(rows, group(other)), name)
            if value is not None:
                parts.append(f"group {other} sets {_format_value(value)}")
    return "; ".join(parts)


def _format_value(value: float | Sequence[str]) -> str:
    return ", ".join(value) if isinstance(value, Sequence) else f"{value:g}"


def _format_row_name(subject: Subject) -> str:
    return "the default row" if subject.kind is SubjectKind.DEFAULT else str(subject)


# --- parsing


def parse_quota_row(raw: object, kind: SubjectKind, releases: Collection[str]) -> QuotaRow:
    """Return the row of the JSON object ``raw``; a null field is not set.

    Raises QuotaRowError with one sentence for the sender.
    """
    if not isinstance(raw, Mapping):
        raise QuotaRowError('A quota must be an object such as {"max_gpus": 2}.')
    known = [one.name for one in quota_fields()]
    unknown = next((str(name)[:40] for name in raw if name not in known), None)
    if unknown is not None:
        raise QuotaRowError(
            f"{unknown!r} is not a field of a quota: choose one of {', '.join(known)}."
        )
    values: dict[str, Any] = {
        name: _parse(name, value) for name, value in raw.items() if value is not None
    }
    if ("gpu_hours" in values) != ("window_days" in values):
        raise QuotaRowError("gpu_hours and window_days need each other: set both, or neither.")
    if "total_gpus" in values and kind is not SubjectKind.GROUP:
        raise QuotaRowError(
            "total_gpus limits all members of a group together: set it in a group row only."
        )
    unlisted = next((one for one in values.get("releases", ()) if one not in releases), None)
    if unlisted is not None:
        raise QuotaRowError(
            f"There is no release {unlisted[:40]!r}: choose one of {', '.join(releases)}."
        )
    return QuotaRow(**values)


def _parse(name: str, value: object) -> object:
    declared = next(one for one in quota_fields() if one.name == name)
    if declared.kind is list:
        return _parse_releases(value)
    kinds = (int,) if declared.kind is int else (int, float)
    # bool is a subclass of int; NaN fails the comparison
    if type(value) not in kinds or not declared.least <= value <= declared.most:  # type: ignore[operator]
        number = "a whole number" if declared.kind is int else "a number"
        raise QuotaRowError(
            f"{name} must be {number} from {declared.least:g} to {declared.most:.0f}, or null."
        )
    return declared.kind(value)


def _parse_releases(value: object) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else []
    are_texts = bool(texts) and all(isinstance(one, str) for one in texts)
    if not are_texts or len(set(texts)) < len(texts):
        raise QuotaRowError("releases must be a list of one or more different releases, or null.")
    return tuple(texts)
