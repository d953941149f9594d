"""Wire shapes of quotas, derived from the declaration of the fields in ``policy.quota_rows``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SkipValidation, WithJsonSchema
from typing_extensions import TypedDict

from spawner.hub.schema.base import Hours, RequestBody
from spawner.policy.quota_rows import QuotaField, quota_fields

MAX_QUOTA_REASON_CHARACTERS = 500
_REASON = "The reason, kept in the audit trail."


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


QuotaRowJson = Annotated[dict[str, Any], WithJsonSchema(_ROW_SCHEMA)]


ROW_WITH_REASON = {
    **_ROW_SCHEMA,
    "properties": {
        **_ROW_SCHEMA["properties"],
        "reason": {
            "type": ["string", "null"],
            "maxLength": MAX_QUOTA_REASON_CHARACTERS,
            "description": _REASON,
        },
    },
}
"""The body of a request that replaces one row."""


class QuotaFileJson(TypedDict, total=False):
    """All rows, as in a quota file."""

    default: QuotaRowJson
    groups: dict[str, QuotaRowJson]
    users: dict[str, QuotaRowJson]


class QuotasJson(TypedDict):
    """The rows within the scopes of the token."""

    quotas: QuotaFileJson


class QuotaChangeJson(TypedDict):
    """The change of one row; null means no row."""

    subject: str
    before: QuotaRowJson | None
    after: QuotaRowJson | None


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
        **{field.name: _field_schema(field) for field in quota_fields() if not field.is_for_groups},
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


_QuotaReason = Annotated[
    str | None,
    Field(max_length=MAX_QUOTA_REASON_CHARACTERS, description=_REASON),
]


class QuotaReplacementBody(RequestBody):
    """All rows of the quotas; each row has a check and a sentence of its own."""

    sentence = (
        'Send {"quotas": {"default": …, "groups": …, "users": …}}, with a reason in one line.'
    )
    quotas: SkipValidation[QuotaFileJson]
    reason: _QuotaReason = None
    changes: SkipValidation[list[QuotaChangeJson]] | None = None


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
            description=_REASON,
        ),
    ]
