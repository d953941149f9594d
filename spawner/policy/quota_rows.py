"""What each row of the quotas says, and what the rows come to for one user.

A user's own row beats those of their groups, among groups the most generous wins, then comes the default row, then the
settings: field by field. A field that is None is not said there. What a group's total allows binds each member.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from spawner.model import Cap, QuotaRowError, Quota
from spawner.policy.options import MIN_HOURS, MAX_GPUS, MAX_HOURS
from spawner.policy.formatting import format_gpu_count, format_hours

MAX_GPU_HOURS = 10_000_000
MAX_WINDOW_DAYS = 366
MAX_PRIORITY = 100


class SubjectKind(StrEnum):
    """Whom a row is for."""

    DEFAULT = "default"
    GROUP = "group"
    USER = "user"


@dataclass(frozen=True)
class Subject:
    """Whom a row is for: everybody, the group ``key``, or the user whose identity is ``key``.

    ``name`` is what people call it; whoever gets a deleted user's name is another subject.
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
class QuotaRow:
    """One row: every field is None where the row does not say it.

    ``gpu_hours`` are those of any ``window_days`` on end, so both are said or neither is. ``total_gpus`` is what all
    members of a group may hold together; no other row has it. ``releases`` are those that may be started.
    """

    max_gpus: int | None = None
    gpu_hours: float | None = None
    window_days: int | None = None
    max_lease_hours: float | None = None
    priority: int | None = None
    total_gpus: int | None = None
    releases: tuple[str, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what the row says, field by field, without what it does not say."""
        said = {f.name: getattr(self, f.name) for f in fields(self)}
        said["releases"] = None if self.releases is None else list(self.releases)
        return {name: value for name, value in said.items() if value is not None}


QuotaRows = Mapping[Subject, QuotaRow]
EMPTY_ROW = QuotaRow()


@dataclass(frozen=True)
class EffectiveQuota:
    """What the rows come to for one user, and whose row says each field (None: the settings)."""

    quota: Quota
    sources: Mapping[str, Subject | None]


def resolve_quota(rows: QuotaRows, own: Subject, groups: Iterable[str], settings: Quota) -> EffectiveQuota:
    """Return the quota of the user ``own`` who is in ``groups``; where no row says a field, ``settings`` do."""
    mine = [group(name) for name in groups]
    caps = (Cap(one.key, total) for one in mine if (total := _of(rows, one).total_gpus) is not None)
    sources: dict[str, Subject | None] = {}
    values: dict[str, Any] = {}
    for name, generosity in _GENEROSITY.items():
        subject = _find_subject(rows, name, own, mine, generosity)
        sources[name] = subject
        values[name] = getattr(settings if subject is None else rows[subject], name)
    hours = sources["gpu_hours"]
    values["window_days"] = (settings if hours is None else rows[hours]).window_days
    values["releases"] = _find_releases(rows, sources["releases"], mine)
    return EffectiveQuota(Quota(**values, caps=tuple(caps)), sources)


def _of(rows: QuotaRows, subject: Subject) -> QuotaRow:
    return rows.get(subject, EMPTY_ROW)


def _find_subject(
    rows: QuotaRows,
    name: str,
    own: Subject,
    groups: Sequence[Subject],
    generosity: Callable[[QuotaRow], Any],
) -> Subject | None:
    """Return whose row says the field ``name``, None where none does."""
    if getattr(_of(rows, own), name) is not None:
        return own
    saying = [one for one in groups if getattr(_of(rows, one), name) is not None]
    if saying:
        return max(saying, key=lambda one: generosity(rows[one]))
    return DEFAULT if getattr(_of(rows, DEFAULT), name) is not None else None


_GENEROSITY: Mapping[str, Callable[[QuotaRow], Any]] = {
    "max_gpus": lambda limits: limits.max_gpus,
    "gpu_hours": lambda limits: (
        (limits.gpu_hours or 0.0) / (limits.window_days or 1),
        limits.gpu_hours,
    ),
    "max_lease_hours": lambda limits: limits.max_lease_hours,
    "priority": lambda limits: limits.priority,
    "releases": lambda limits: len(limits.releases or ()),
}


def _find_releases(
    rows: QuotaRows, source: Subject | None, groups: Sequence[Subject]
) -> tuple[str, ...] | None:
    if source is None:
        return None
    if source.kind is not SubjectKind.GROUP:
        return rows[source].releases
    allowed = (name for one in groups for name in _of(rows, one).releases or ())
    return tuple(dict.fromkeys(allowed))  # of all groups that name any


# --- in words

FIELDS = ("max_gpus", "gpu_hours", "max_lease_hours", "priority", "releases")


@dataclass(frozen=True)
class FieldExplanation:
    """One field of somebody's quota in words: ``what`` it is, and ``why``, whose row says so and which do not."""

    field: str
    what: str
    why: str


def explain_quota(
    effective: EffectiveQuota, rows: QuotaRows, own: Subject, groups: Sequence[str]
) -> tuple[FieldExplanation, ...]:
    """Return every field of the quota of ``own`` with its source: "2 GPUs", "from group vision; own row: none"."""
    told = [
        FieldExplanation(
            name, _say(name, effective.quota), _say_source(name, effective, rows, own, groups)
        )
        for name in FIELDS
    ]
    for cap in effective.quota.caps:
        what = f"{format_gpu_count(cap.total_gpus)} among all members of group {cap.group}"
        told.append(
            FieldExplanation("total_gpus", what, f"from group {cap.group}, which binds each member")
        )
    return tuple(told)


def _say(name: str, quota: Quota) -> str:
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
        return f"priority {value}"
    return "every release" if value is None else f"releases {', '.join(value)}"


def _say_source(
    name: str, effective: EffectiveQuota, rows: QuotaRows, own: Subject, groups: Sequence[str]
) -> str:
    source = effective.sources[name]
    if source == own:
        return "from the user's own row"
    said = ["from the settings" if source is None else f"from {_call(source)}"]
    for other in groups:
        if source != group(other):
            value = getattr(_of(rows, group(other)), name)
            said.append(f"group {other}: {'none' if value is None else _say_value(value)}")
    return "; ".join([*said, "own row: none"])


def _say_value(value: float | Sequence[str]) -> str:
    return ", ".join(value) if isinstance(value, Sequence) else f"{value:g}"


def _call(subject: Subject) -> str:
    return "the default row" if subject.kind is SubjectKind.DEFAULT else str(subject)


# --- from outside


def parse_quota_row(raw: object, kind: SubjectKind, releases: Collection[str]) -> QuotaRow:
    """Return the row that the JSON object ``raw`` describes; None stands for what is not said.

    Raises QuotaRowError with one sentence for who sent it.
    """
    if not isinstance(raw, Mapping):
        raise QuotaRowError('A quota must be an object such as {"max_gpus": 2}.')
    known = [f.name for f in fields(QuotaRow)]
    unknown = next((str(name)[:40] for name in raw if name not in known), None)
    if unknown is not None:
        raise QuotaRowError(f"{unknown!r} is no field of a quota: choose of {', '.join(known)}.")
    values: dict[str, Any] = {
        name: _parse(name, value) for name, value in raw.items() if value is not None
    }
    if ("gpu_hours" in values) != ("window_days" in values):
        raise QuotaRowError("Say gpu_hours and window_days together: so many in any so many days.")
    if "total_gpus" in values and kind is not SubjectKind.GROUP:
        raise QuotaRowError("Only a group has total_gpus, what all its members may hold together.")
    stranger = next((one for one in values.get("releases", ()) if one not in releases), None)
    if stranger is not None:
        raise QuotaRowError(
            f"There is no release {stranger[:40]!r}: choose of {', '.join(releases)}."
        )
    return QuotaRow(**values)


def _parse(name: str, value: object) -> object:
    if name == "releases":
        return _parse_releases(value)
    kinds, least, most = _RANGES[name]
    # bool is an int in Python; NaN compares as outside
    if type(value) not in kinds or not least <= value <= most:  # type: ignore[operator]
        number = "a whole number" if kinds == (int,) else "a number"
        raise QuotaRowError(f"{name} must be {number} from {least:g} to {most}, or null.")
    return float(value) if float in kinds else value  # type: ignore[arg-type]


def _parse_releases(value: object) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else []
    are_texts = bool(texts) and all(isinstance(one, str) for one in texts)
    if not are_texts or len(set(texts)) < len(texts):
        raise QuotaRowError("releases must be a list of one or more different releases, or null.")
    return tuple(texts)


_RANGES: Mapping[str, tuple[tuple[type, ...], float, int]] = {
    "max_gpus": ((int,), 0, MAX_GPUS),
    "gpu_hours": ((int, float), 0, MAX_GPU_HOURS),
    "window_days": ((int,), 1, MAX_WINDOW_DAYS),
    "max_lease_hours": ((int, float), MIN_HOURS, MAX_HOURS),
    "priority": ((int,), -MAX_PRIORITY, MAX_PRIORITY),
    "total_gpus": ((int,), 0, MAX_GPUS),
}
