"""Request schema: one model from the contract validates JSON bodies and describes them in OpenAPI.

A body is ``{"instances": [{INPUT: value, …}, …]}``, its answer ``{"predictions": [{OUTPUT: value, …}, …]}``, by rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from workbench_toolkit.export.contract import TensorSpec
from workbench_toolkit.export.inputs import Array
from workbench_toolkit.serve.refusal import Reason, Refusal

_EXACT = 2**53 - 1
"""The largest integer whose float form is unique."""

_STRICT = ConfigDict(extra="forbid", strict=True)


class JsonBodies:
    """Validates JSON bodies of one model and converts them to arrays."""

    def __init__(self, inputs: Sequence[TensorSpec], max_rows: int) -> None:
        self._inputs = inputs
        fields: dict[str, Any] = {spec.name: (_value(spec), ...) for spec in inputs}
        self._row = create_model("Instance", __config__=_STRICT, **fields)
        rows = Annotated[
            list[self._row],  # type: ignore[name-defined]
            Field(min_length=1, max_length=max_rows, fail_fast=True),
        ]
        self._body: type[BaseModel] = create_model(
            "Request", __config__=_STRICT, instances=(rows, ...)
        )

    def parse(self, body: bytes) -> list[Array]:
        """Return the arrays of ``body`` in the contract's order; raises Refusal."""
        try:
            request: Any = self._body.model_validate_json(body)
        except ValidationError as error:
            raise _refusal(error) from None
        return [
            np.asarray([getattr(row, spec.name) for row in request.instances], dtype=spec.dtype)
            for spec in self._inputs
        ]

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a body, without references."""
        schema = self._body.model_json_schema()
        schema.pop("$defs")
        schema["properties"]["instances"]["items"] = self._row.model_json_schema()
        return schema


def prediction_schema(outputs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Return the JSON Schema of an answer; NaN and infinity, missing in JSON, are null."""
    row = {spec.name: _output(spec) for spec in outputs}
    return {
        "type": "object",
        "required": ["predictions"],
        "properties": {
            "predictions": {
                "type": "array",
                "items": {"type": "object", "required": list(row), "properties": row},
            }
        },
    }


def _value(spec: TensorSpec) -> Any:  # noqa: ANN401 - a type made at run time
    value: Any
    if spec.dtype == "bool":
        value = bool
    elif spec.dtype.startswith("float"):
        most = float(np.finfo(spec.dtype).max)
        value = Annotated[float, Field(ge=-most, le=most, allow_inf_nan=False)]
    else:
        limits = np.iinfo(spec.dtype)
        least, most = (
            (int(limits.min), int(limits.max)) if spec.below is None else (0, spec.below - 1)
        )
        value = _whole_number(least, most)
    for size in reversed(spec.shape[1:]):
        value = Annotated[list[value], Field(min_length=size, max_length=size, fail_fast=True)]
    return value


def _whole_number(least: int, most: int) -> Any:  # noqa: ANN401 - a type made at run time
    # JSON Schema accepts 8.0 as an integer
    exact = Field(ge=max(least, -_EXACT), le=min(most, _EXACT))
    return Annotated[
        Annotated[int, Field(ge=least, le=most)]
        | Annotated[float, exact, AfterValidator(_to_whole)],
        Field(union_mode="left_to_right"),
        WithJsonSchema({"type": "integer", "minimum": least, "maximum": most}),
    ]


def _to_whole(number: float) -> int:
    if not number.is_integer():
        raise ValueError("not whole")
    return int(number)


def _output(spec: TensorSpec) -> dict[str, Any]:
    kinds = {"b": "boolean", "f": ["number", "null"]}
    schema: dict[str, Any] = {"type": kinds.get(np.dtype(spec.dtype).kind, "integer")}
    for size in reversed(spec.shape[1:]):
        schema = {"type": "array", "minItems": size, "maxItems": size, "items": schema}
    return schema


def _refusal(error: ValidationError) -> Refusal:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return Refusal(Reason.BODY, f"The body is not JSON: {first['msg'].partition(': ')[2]}.")
    # below instances[…].INPUT a word is pydantic's name of an alternative, not a part of the path
    steps = [step for depth, step in enumerate(first["loc"]) if depth < 3 or isinstance(step, int)]
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    problem = (
        "is not an input of this model"
        if first["type"] == "extra_forbidden"
        else first["msg"].lower()
    )
    return Refusal(
        Reason.INPUT,
        f"{place.removeprefix('.')[:200] or 'the body'}: {problem}; see /openapi.json.",
    )
