"""Operations: declare what a REST handler's method takes and answers, for the OpenAPI document.

``spawner.hub.handlers.openapi_document`` derives the document from the routes and from these declarations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from spawner.hub.schema.base import RequestBody

_Method = TypeVar("_Method", bound=Callable[..., Any])


@dataclass(frozen=True)
class ApiOperation:
    """One method of a REST handler.

    ``scope`` is the token's scope, None for any user. ``answer`` is the shape of the answer, None for an empty one;
    ``media`` lists other media types of it. ``query`` is the shape of the parameters of the address. ``refusals`` are
    the statuses beyond those that every operation has. ``trouble`` is the shape of its 503.
    """

    id: str
    summary: str
    scope: str | None
    answers: str
    answer: Any = None
    status: HTTPStatus = HTTPStatus.OK
    media: tuple[str, ...] = ()
    body: type[RequestBody] | None = None
    body_schema: dict[str, Any] | None = None
    query: Any = None
    refusals: tuple[HTTPStatus, ...] = ()
    trouble: Any = None
    description: str | None = None


def operation(id_: str, summary: str, **details: Any) -> Callable[[_Method], _Method]:  # noqa: ANN401
    """Return a decorator that declares a handler's method; ``details`` are the fields of ``ApiOperation``."""
    declared = ApiOperation(id_, summary, **details)

    def decorate(method: _Method) -> _Method:
        vars(method)["operation"] = declared
        return method

    return decorate


def operation_of(handler: type, method: str) -> ApiOperation | None:
    """Return the declaration of ``handler``'s ``method``, None where it has none."""
    declared: ApiOperation | None = getattr(getattr(handler, method), "operation", None)
    return declared
