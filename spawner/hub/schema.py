"""Wire shapes: declares every request and answer of the workbench's REST API, and every event of its stream.

Answers are typed dictionaries: the type checker compares the views with them, and they cost nothing at run time.
Requests are pydantic models: ``read`` turns a body into one, or into one sentence. ``spawner.hub.openapi`` derives
``openapi.json`` from both; nothing about a shape is written by hand elsewhere.

A name has one meaning in all shapes: ``gpus`` is a number, and ``devices`` is a list of GPUs or MIG instances.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, NotRequired, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SkipValidation,
    ValidationError,
    WithJsonSchema,
)

# pydantic refuses the one of typing before Python 3.12
from typing_extensions import TypedDict

from spawner.hub.server_notices import MAX_CHARACTERS, MAX_NOTICES
from spawner.ledger.trail import TrailAction
from spawner.model import Cause, GpuHealth, LeaseState, QueueEnd
from spawner.policy.quota_rows import QuotaField, quota_fields
from spawner.policy.usage import GroupBy

MAX_REASON_CHARACTERS = 200
MAX_QUOTA_REASON_CHARACTERS = 500
MAX_EXTENSION_HOURS = 8760
MAX_ID = 2**31 - 1
MAX_SEARCH_CHARACTERS = 100
MAX_PAGE = 10**6
MAX_GROUP_CHARACTERS = 64
MAX_GROUPS = 100

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Day = Annotated[str, Field(json_schema_extra={"format": "date"})]
Count = Annotated[int, Field(ge=0)]
Bytes = Annotated[int, Field(ge=0)]
Hours = Annotated[float, Field(ge=0)]
TileState = Literal["quarantined", "drained", "unknown", "free", "held", "closing"]
MigProfile = Annotated[
    str | None, Field(description="Kind of MIG instance, such as `1g.10gb`; null for whole GPUs.")
]


class ErrorJson(TypedDict):
    """A refusal."""

    status: int
    message: Annotated[str, Field(description="One sentence for the user.")]


# -- leases and the queue


class LeaseEndJson(TypedDict):
    """How the last lease of a server ended."""

    cause: Cause
    at: Time


class LeaseJson(TypedDict):
    """The lease of one of one's own servers."""

    state: LeaseState | None
    gpus: Count
    ends_at: Time | None
    seconds_left: int | None
    max_lease_hours: float
    idle_seconds_left: Annotated[
        int | None,
        Field(description="Seconds until its idle GPUs are released; null unless that is soon."),
    ]
    trouble: Annotated[str | None, Field(description="One sentence about a GPU that failed.")]
    gpus_given_back: Annotated[
        int | None,
        Field(description="Number of GPUs that were released lately because they were idle."),
    ]
    home_size_bytes: Bytes | None
    home_quota_bytes: Bytes | None
    notices: Annotated[
        list[str],
        Field(description="Sentences about ignored parts of the home, and about lost processes."),
    ]
    last_end: LeaseEndJson | None


class HolderJson(TypedDict):
    """A lease that holds GPUs."""

    lease: str
    user: str
    gpus: Count
    mig_profile: MigProfile
    ends_at: Time | None
    is_closing: bool


class WaiterJson(TypedDict):
    """A request that waits in the queue; positions count from 1 for each kind of GPU."""

    lease: str
    position: Annotated[int, Field(ge=1)]
    user: str
    gpus: Count
    mig_profile: MigProfile
    hours: Hours
    requested_at: Time
    starts_at: Annotated[Time | None, Field(description="Estimated start; null if unknown.")]


class KindJson(TypedDict):
    """The GPUs of one kind."""

    mig_profile: MigProfile
    total: Count
    free: Count
    drained: Count


class QueueJson(TypedDict):
    """Leases that hold GPUs, and requests that wait."""

    kinds: Annotated[list[KindJson] | None, Field(description="Null if the GPUs are unknown.")]
    holders: list[HolderJson]
    waiting: list[WaiterJson]


class WaitJson(TypedDict):
    """The wait of one request: its position, the requests ahead of it, and the leases that hold its kind of GPU."""

    gpus: int | None
    mig_profile: MigProfile
    position: int
    queue_length: int
    starts_at: Time | None
    ahead: list[WaiterJson]
    not_shown: Count
    holders: list[HolderJson]


# -- GPUs


class QuarantineJson(TypedDict):
    """A GPU that no lease gets because it failed."""

    reason: str
    since: Time
    returned_at: Time | None
    returned_by: str | None


class DrainJson(TypedDict):
    """A GPU that no new lease gets because an admin said so."""

    reason: str
    by: str
    since: Time


class DeviceJson(TypedDict):
    """A GPU or a MIG instance; fields that only the agent knows are null where it does not list the device."""

    uuid: str
    index: int | None
    name: str | None
    mig_profile: MigProfile
    health: GpuHealth
    holder: str | None
    quarantine: QuarantineJson | None
    drain: DrainJson | None
    last_quarantine: QuarantineJson | None


class DevicesJson(TypedDict):
    """Every GPU and MIG instance."""

    devices: list[DeviceJson]
    error: Annotated[str | None, Field(description="The reason why the GPUs are unknown.")]


class MapQuarantineJson(TypedDict):
    """A quarantine as the map shows it."""

    reason: str
    since: Time


class MapDrainJson(TypedDict):
    """A drain as the map shows it."""

    reason: str
    by: str | None
    since: Time


class MapHolderJson(TypedDict):
    """The lease that holds a tile; null where it is free."""

    lease: str | None
    holder: str | None
    ends_at: Time | None


class TileJson(MapHolderJson):
    """One GPU or MIG instance of the map; unknown is null."""

    uuid: str
    index: int | None
    title: str
    name: str | None
    simulated: bool
    mig_profile: MigProfile
    mig_index: int | None
    state: TileState
    health: GpuHealth
    memory_used_bytes: Bytes | None
    memory_total_bytes: Bytes | None
    temperature_celsius: float | None
    utilization_percent: float | None
    power_watts: float | None
    drain: MapDrainJson | None
    quarantine: MapQuarantineJson | None


class MapWaiterJson(TypedDict):
    """A request that waits, as the map shows it."""

    lease: str
    position: int
    queue_length: int
    user: str
    gpus: Count
    mig_profile: MigProfile
    hours: Hours
    starts_at: Time | None


class MapJson(TypedDict):
    """Event ``map``: every GPU, its holder, its readings, and the queue."""

    at: Time
    host: str | None
    error: str | None
    devices: list[TileJson]
    kinds: list[KindJson]
    queue: list[MapWaiterJson]
    queue_length: Count


class ChangesJson(TypedDict):
    """Event ``changes``: the changed fields of the map, and under ``devices`` those of each changed tile by index."""

    at: NotRequired[Time]
    host: NotRequired[str | None]
    error: NotRequired[str | None]
    devices: NotRequired[dict[str, dict[str, Any]]]
    kinds: NotRequired[list[KindJson]]
    queue: NotRequired[list[MapWaiterJson]]
    queue_length: NotRequired[Count]


class OwnJson(TypedDict):
    """Event ``own``: the viewer's leases and queue positions."""

    leases: list[str]
    positions: list[MapWaiterJson]


EVENTS: dict[str, Any] = {"map": MapJson, "changes": ChangesJson, "own": OwnJson}
"""The shape of each event of the stream."""


# -- quotas


def _field_schema(field: QuotaField) -> dict[str, Any]:
    if field.kind is list:
        return {
            "type": ["array", "null"],
            "items": {"type": "string"},
            "minItems": 1,
            "uniqueItems": True,
            "description": field.bounds,
        }
    return {
        "type": ["integer" if field.kind is int else "number", "null"],
        "minimum": field.least,
        "maximum": field.most,
        "description": field.bounds,
    }


_ROW_SCHEMA: dict[str, Any] = {
    "title": "QuotaRow",
    "description": "One row of the quotas; a field that is absent or null is not set in this row.",
    "type": "object",
    "properties": {field.name: _field_schema(field) for field in quota_fields()},
    "additionalProperties": False,
}
QuotaRow = Annotated[dict[str, Any], WithJsonSchema(_ROW_SCHEMA)]


ROW_WITH_REASON = {
    **_ROW_SCHEMA,
    "properties": {
        **_ROW_SCHEMA["properties"],
        "reason": {
            "type": ["string", "null"],
            "maxLength": MAX_QUOTA_REASON_CHARACTERS,
            "description": "The reason, kept in the audit trail.",
        },
    },
}
"""The body of a request that replaces one row."""


class QuotaFileJson(TypedDict, total=False):
    """All rows, as in a quota file."""

    default: QuotaRow
    groups: dict[str, QuotaRow]
    users: dict[str, QuotaRow]


class QuotasJson(TypedDict):
    """The rows within the scopes of the token."""

    quotas: QuotaFileJson


class QuotaChangeJson(TypedDict):
    """The change of one row; null means no row."""

    subject: str
    before: QuotaRow | None
    after: QuotaRow | None


class QuotaChangesJson(TypedDict):
    """The changes that were made, or would be made."""

    changes: list[QuotaChangeJson]


class QuotaExplanationJson(TypedDict):
    """One field of an effective quota in words."""

    field: str
    what: str
    why: Annotated[str, Field(description="The row that sets the field.")]


_VALUES_SCHEMA = {
    "title": "QuotaValues",
    "description": "The value of each field, and the total of each group under `caps`.",
    "type": "object",
    "properties": {
        **{
            field.name: {**_field_schema(field), "description": field.bounds}
            for field in quota_fields()
            if not field.is_for_groups
        },
        "caps": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
    "additionalProperties": False,
}


class EffectiveQuotaJson(TypedDict):
    """The effective quota of one user, and what counts against it."""

    user: str
    groups: list[str]
    quota: Annotated[dict[str, Any], WithJsonSchema(_VALUES_SCHEMA)]
    explained: list[QuotaExplanationJson]
    gpus: Annotated[int, Field(ge=0, description="GPUs held or waited for now.")]
    gpu_hours_held: Hours
    gpu_hours_coming: Annotated[float, Field(ge=0, description="The rest of current leases.")]
    gpu_hours_left: Annotated[float | None, Field(description="Null means no limit.")]
    over_quota: list[str]
    refused_now: list[str]


# -- the audit trail, usage, homes, health


class TrailEntryJson(TypedDict):
    """One recorded action; `before` is null for something new, `after` for something removed."""

    id: int
    at: Time
    actor: str
    action: TrailAction
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str | None


class TrailPageJson(TypedDict):
    """One page of the trail; `next` is the `before`, or the `after`, of the following request."""

    entries: list[TrailEntryJson]
    next: int | None


class UsageSumJson(TypedDict):
    """GPU-hours of one sum."""

    held_gpu_hours: Hours
    used_gpu_hours: Annotated[float | None, Field(description="Null if nothing was measured.")]
    unmeasured_gpu_hours: Hours


class UsageRowJson(UsageSumJson):
    """GPU-hours of one user, group, day, GPU or release."""

    key: str
    label: str


# `from` is a word of Python
UsageJson = TypedDict(
    "UsageJson",
    {"from": Day, "to": Day, "by": GroupBy, "rows": list[UsageRowJson], "sum": UsageSumJson},
)
"""GPU-hours of some days; both days are included."""


class HomeJson(TypedDict):
    """The home of one user."""

    home: str
    user: Annotated[
        str | None, Field(description="The name of its user; null if the user is deleted.")
    ]
    first_name: str
    uid: int
    size_bytes: Bytes | None
    is_in_use: bool
    last_used_at: Time | None


class HomesJson(TypedDict):
    """All homes, those of deleted users first."""

    homes: list[HomeJson]
    measured_at: Time | None


class WorkbenchHealthJson(TypedDict):
    """The parts of the workbench; each has null, or one sentence about its trouble."""

    is_healthy: bool
    parts: dict[str, str | None]


class UnhealthyWorkbenchJson(WorkbenchHealthJson, ErrorJson):
    """The health of a workbench of which a part does not work."""


# -- people


class Show(StrEnum):
    """The people that a list shows."""

    ALL = "all"
    WAITING = "waiting"
    SERVERS = "servers"
    ADMINS = "admins"


class LogIn(StrEnum):
    """Whether a person may log in; ``PROVIDER`` means that the authenticator decides at each log-in."""

    APPROVED = "approved"
    WAITING = "waiting"
    NO_ACCOUNT = "no account"
    PROVIDER = "provider"


class PersonServerJson(TypedDict):
    """One server of a person."""

    server: Annotated[str, Field(description="Empty for the default server.")]
    lease: str
    state: str
    holds: Annotated[str, Field(description="Its GPUs in words.")]
    ends_at: Time | None
    wait: Annotated[str | None, Field(description="Its position, such as `2 of 5`, or null.")]


class PersonJson(TypedDict):
    """One user or sign-up."""

    name: str
    admin: bool
    log_in: LogIn
    groups: list[str]
    quota_summary: Annotated[
        str,
        Field(
            description="The effective quota in words; `quotas/users/{name}/effective` has the fields."
        ),
    ]
    servers: list[PersonServerJson]
    last_seen_at: Time | None
    gpu_hours: Annotated[float, Field(ge=0, description="GPU-hours held in the last 30 days.")]


class PeopleJson(TypedDict):
    """One page of people."""

    people: list[PersonJson]
    page: int
    pages: int
    people_count: Annotated[int, Field(description="All people that match.")]
    waiting_count: Annotated[int, Field(description="All sign-ups that wait for approval.")]


class PasswordLinkJson(TypedDict):
    """A link with which a user chooses a new password."""

    path: Annotated[str, Field(description="The link below the address of the workbench.")]
    url: Annotated[str | None, Field(description="The whole link, if WORKBENCH_PUBLIC_URL is set.")]
    expires_at: Time


# -- requests


class RequestBody(BaseModel):
    """A request body; ``sentence`` is the refusal of any other body."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
    sentence: ClassVar[str]

    @classmethod
    def is_needed(cls) -> bool:
        """Return whether a field has to be sent."""
        return any(field.is_required() for field in cls.model_fields.values())


class LeaseExtensionBody(RequestBody):
    """The hours that an extension adds to a lease."""

    sentence = (
        f'Give the hours to add, more than 0 and at most {MAX_EXTENSION_HOURS}: {{"hours": 4}}.'
    )
    hours: float = Field(gt=0, le=MAX_EXTENSION_HOURS)


def _require_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError(text)
    return text.strip()


Reason = Annotated[
    str,
    Field(min_length=1, max_length=MAX_REASON_CHARACTERS, description="The reason, in one line."),
    AfterValidator(_require_line),
]


class AdminActionBody(RequestBody):
    """An admin's action."""

    sentence = (
        f"Give a reason, in one line of at most {MAX_REASON_CHARACTERS} characters, and nothing else: "
        '{"reason": "the fan is loud"}.'
    )
    reason: Reason


class QueueMoveBody(RequestBody):
    """A move of a waiting request."""

    sentence = (
        'Give the end of the queue and a reason in one line: {"to": "first" or "last", "reason": '
        '"a deadline"}.'
    )
    reason: Reason
    # strict mode takes no text for an enum
    to: Annotated[QueueEnd, Field(strict=False)]


class ActivityBody(RequestBody):
    """The activity of a server's kernels and terminals; null means unknown."""

    sentence = (
        'Send "schema": 1, and busy_kernels, kernels_quiet_seconds, terminals_quiet_seconds, each a number from 0 '
        f"on or null if unknown. `notices` may be at most {MAX_NOTICES} texts of {MAX_CHARACTERS} characters."
    )
    schema_: Literal[1] = Field(alias="schema")
    busy_kernels: float | None = Field(ge=0, le=1e6)
    kernels_quiet_seconds: float | None = Field(ge=0, le=1e9)
    terminals_quiet_seconds: float | None = Field(ge=0, le=1e9)
    # a server that was started before an upgrade of the hub sends no notices
    notices: list[Annotated[str, Field(max_length=MAX_CHARACTERS)]] = Field(
        default=[],
        max_length=MAX_NOTICES,
        description="Sentences about ignored parts of the home, and about processes that ended for memory.",
    )


_QuotaReason = Annotated[
    str | None,
    Field(
        max_length=MAX_QUOTA_REASON_CHARACTERS, description="The reason, kept in the audit trail."
    ),
]


class QuotaReplacementBody(RequestBody):
    """All rows of the quotas; each row has a check and a sentence of its own."""

    sentence = (
        'Send {"quotas": {"default": …, "groups": …, "users": …}}, with a reason in one line.'
    )
    quotas: SkipValidation[QuotaFileJson]
    reason: _QuotaReason = None
    changes: SkipValidation[list[QuotaChangeJson]] | None = None


def _require_optional_line(text: str | None) -> str | None:
    if text is None or not text.strip():
        return None
    return _require_line(text)


_OptionalReason = Annotated[
    str | None,
    Field(
        max_length=MAX_REASON_CHARACTERS,
        description="The reason, in one line; the audit trail keeps it.",
    ),
    AfterValidator(_require_optional_line),
]


class PersonOrderBody(RequestBody):
    """An order over one person."""

    sentence = (
        f"Send nothing, or a reason in one line of at most {MAX_REASON_CHARACTERS} characters: "
        '{"reason": "left the lab"}.'
    )
    reason: _OptionalReason = None


class GroupsBody(RequestBody):
    """The groups of one person."""

    sentence = (
        f"Send at most {MAX_GROUPS} groups, and a reason in one line if you like: "
        '{"groups": ["vision"], "reason": "joins the lab"}.'
    )
    groups: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MAX_GROUP_CHARACTERS)]],
        Field(max_length=MAX_GROUPS),
    ]
    reason: _OptionalReason = None


# -- parameters of the address


class PeopleSearch(TypedDict, total=False):
    """Parameters of a list of people."""

    search: Annotated[
        str,
        Field(
            max_length=MAX_SEARCH_CHARACTERS,
            description="A part of a name or of a group; case does not matter.",
        ),
    ]
    show: Annotated[Show, Field(description="The people to list.")]
    page: Annotated[int, Field(ge=1, le=MAX_PAGE, description="The page, from 1.")]


class TrailSearch(TypedDict, total=False):
    """Parameters of a search in the audit trail."""

    actor: Annotated[str, Field(description="The exact actor.")]
    action: TrailAction
    subject: Annotated[str, Field(description="The exact subject, such as `user alice`.")]
    text: Annotated[str, Field(description="Text anywhere in an entry; case does not matter.")]
    since: Annotated[str, Field(description="From this time on; UTC without a time zone.")]
    until: Annotated[str, Field(description="Before this time.")]
    before: Annotated[
        int,
        Field(ge=0, le=MAX_ID, description="Entries before this id: `next` of the page before."),
    ]
    after: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_ID,
            description="Follow the whole trail: the entries after this id, oldest first. It excludes every "
            "other parameter.",
        ),
    ]
    format: Annotated[
        Literal["json", "csv", "jsonl"],
        Field(description="`json` is one page; the others are a file of all entries."),
    ]


UsageSearch = TypedDict(
    "UsageSearch",
    {
        "from": Annotated[
            Day, Field(description="First day (UTC); by default a week before the last.")
        ],
        "to": Annotated[Day, Field(description="Last day, included; by default today.")],
        "by": Annotated[GroupBy, Field(description="The grouping of the sums.")],
        "format": Annotated[Literal["json", "csv"], Field(description="The format of the answer.")],
    },
    total=False,
)


DryRun = TypedDict(
    "DryRun",
    {"dry-run": Annotated[str, Field(description="Answer the changes, and change nothing.")]},
    total=False,
)


class WithReason(TypedDict, total=False):
    """The reason of a deletion."""

    reason: Annotated[
        str,
        Field(
            max_length=MAX_QUOTA_REASON_CHARACTERS,
            description="The reason, kept in the audit trail.",
        ),
    ]


_BodyT = TypeVar("_BodyT", bound=RequestBody)


def read(model: type[_BodyT], body: object) -> _BodyT:
    """Return ``body`` as ``model``; raises ValueError with one sentence for the sender."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise ValueError(model.sentence) from error
