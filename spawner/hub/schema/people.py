"""Wire shapes of users and sign-ups."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from spawner.hub.schema.base import MAX_REASON_CHARACTERS, OptionalReason, RequestBody, Time

MAX_SEARCH_CHARACTERS = 100


MAX_PAGE = 10**6


MAX_GROUP_CHARACTERS = 64


MAX_GROUPS = 100


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


class PersonOrderBody(RequestBody):
    """An order over one person."""

    sentence = (
        f"Send nothing, or a reason in one line of at most {MAX_REASON_CHARACTERS} characters: "
        '{"reason": "left the lab"}.'
    )
    reason: OptionalReason = None


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
    reason: OptionalReason = None


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
