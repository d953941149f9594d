"""Wire shapes of what the workbench records: audit trail, usage, homes and health."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from spawner.hub.schema.base import Bytes, Day, ErrorJson, Hours, Time
from spawner.ledger.trail import TrailAction
from spawner.policy.usage import GroupBy

MAX_ID = 2**31 - 1


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
