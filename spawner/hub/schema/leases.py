"""Wire shapes of leases and of the queue."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from spawner.hub.schema.base import Bytes, Count, Hours, MigProfile, Reason, RequestBody, Time
from spawner.hub.schema.gpus import KindJson
from spawner.hub.server_notices import MAX_CHARACTERS, MAX_NOTICES
from spawner.model import Cause, LeaseState, QueueEnd
from spawner.policy.options import MAX_HOURS


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


class LeaseExtensionBody(RequestBody):
    """The hours that an extension adds to a lease."""

    sentence = f'Give the hours to add, more than 0 and at most {MAX_HOURS}: {{"hours": 4}}.'
    hours: float = Field(gt=0, le=MAX_HOURS)


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
