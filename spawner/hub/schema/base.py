"""Wire shapes, what all share: types of fields, the refusal, and request bodies with one sentence each."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict

MAX_REASON_CHARACTERS = 200


Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


Day = Annotated[str, Field(json_schema_extra={"format": "date"})]


Count = Annotated[int, Field(ge=0)]


Bytes = Annotated[int, Field(ge=0)]


Hours = Annotated[float, Field(ge=0)]


MigProfile = Annotated[
    str | None, Field(description="Kind of MIG instance, such as `1g.10gb`; null for whole GPUs.")
]


class ErrorJson(TypedDict):
    """A refusal."""

    status: int
    message: Annotated[str, Field(description="One sentence for the user.")]


class RequestBody(BaseModel):
    """A request body; ``sentence`` is the refusal of any other body."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
    sentence: ClassVar[str]

    @classmethod
    def is_needed(cls) -> bool:
        """Return whether a field has to be sent."""
        return any(field.is_required() for field in cls.model_fields.values())


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


def _require_optional_line(text: str | None) -> str | None:
    if text is None or not text.strip():
        return None
    return _require_line(text)


OptionalReason = Annotated[
    str | None,
    Field(
        max_length=MAX_REASON_CHARACTERS,
        description="The reason, in one line; the audit trail keeps it.",
    ),
    AfterValidator(_require_optional_line),
]


_BodyT = TypeVar("_BodyT", bound=RequestBody)


def parse_as(model: type[_BodyT], body: object) -> _BodyT:
    """Return ``body`` as ``model``; raises ValueError with one sentence for the sender."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise ValueError(model.sentence) from error
