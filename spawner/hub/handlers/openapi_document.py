"""OpenAPI generator: derives ``openapi.json`` from the routes, their operations and ``spawner.hub.schema``.

``python -m spawner.hub.handlers.openapi_document`` writes the file; a test compares it with the code.
"""

from __future__ import annotations

import inspect
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, cast

from pydantic import TypeAdapter
from tornado.web import RequestHandler

from spawner.hub.handlers.api_base import GetWorkbench
from spawner.hub.handlers.openapi import DOCUMENT
from spawner.hub.handlers.operation import ApiOperation, operation_of
from spawner.hub.handlers.routes import build_routes
from spawner.hub.schema.base import ErrorJson
from spawner.hub.schema.gpus import EVENTS

PREFIX = "/api/workbench"
METHODS = ("get", "post", "put", "patch", "delete")
JSON_TYPE = "application/json"
_REFERENCE = "#/components/schemas/{model}"
_GROUP = re.compile(r"\(([^()]*)\)")
_ANY_SEGMENT = "[^/]+"
_PATH_PARAMETERS = {
    "gpu_uuid": ("uuid", "The GPU's UUID."),
    "home": ("home", "The name of the home, from the list, or of its user."),
    "lease_id": ("lease", "The lease's id."),
    "name": ("name", "Name of the group or the user."),
    "server_name": ("server", "Name of one of one's own named servers."),
    "volume": ("home", "The name of the home, from the list."),
}
"""The public name and the description of each parameter of a handler's method."""
_REFUSALS = {
    HTTPStatus.BAD_REQUEST: ("BadRequest", "The request is not valid."),
    HTTPStatus.FORBIDDEN: ("Forbidden", "No token, or one without the scope."),
    HTTPStatus.NOT_FOUND: ("NotFound", "The resource does not exist."),
    HTTPStatus.CONFLICT: ("Conflict", "The current state does not allow it."),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "Unavailable",
        "A dependency (ledger, gpu-agent, Docker, hub database) does not answer; the message is one sentence.",
    ),
}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds to wait before the next attempt.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    }
}


def build_document() -> dict[str, Any]:
    """Return the document of all routes."""
    schemas: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for path, method, declared, names, ending in _list_operations():
        node = _describe(method, declared, names, schemas)
        paths.setdefault(path, {})[method] = {"operationId": declared.id + ending, **node}
    for event in EVENTS.values():
        _refer(event, schemas)
    error = _refer(ErrorJson, schemas)
    responses = {
        name: {
            "description": sentence,
            **({"headers": _RETRY_AFTER} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}),
            "content": {JSON_TYPE: {"schema": error}},
        }
        for status, (name, sentence) in _REFUSALS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "GPU Workbench",
            "version": "1",
            "description": "The workbench's own part of JupyterHub's REST API. "
            "Every refusal is one sentence in `message`.",
        },
        "servers": [{"url": "/hub/api"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`token` and a JupyterHub API token; each operation names its scope; "
                    "`admin:servers` replaces any of them.",
                }
            },
            "responses": responses,
            "schemas": dict(sorted(schemas.items())),
        },
    }


def _list_operations() -> Iterator[tuple[str, str, ApiOperation, list[str], str]]:
    """Yield path, method, declaration, path parameters and the ending of the id of every operation."""
    routes = build_routes(cast(GetWorkbench, lambda: None))
    for pattern, handler, _ in routes:
        if not pattern.startswith(PREFIX):
            continue
        for method in METHODS:
            if getattr(handler, method) is getattr(RequestHandler, method):
                continue
            declared = operation_of(handler, method)
            if declared is None:
                raise LookupError(f"{handler.__name__}.{method} has no @operation: declare it.")
            arguments = [*inspect.signature(getattr(handler, method)).parameters][1:]
            for path, names, ending in _expand(pattern, arguments):
                yield path, method, declared, names, ending


def _expand(pattern: str, arguments: list[str]) -> Iterator[tuple[str, list[str], str]]:
    """Yield every path of a route's pattern, its parameters, and an ending that no other path has."""
    groups = [match[1] for match in _GROUP.finditer(pattern)]
    choices = [
        [f"{{{_PATH_PARAMETERS[name][0]}}}"] if group == _ANY_SEGMENT else group.split("|")
        for name, group in zip(arguments, groups, strict=False)
    ]
    plain = pattern.removeprefix("/api").replace("[.]", ".")
    for chosen in itertools.product(*choices):
        parts = iter(chosen)
        path = _GROUP.sub(lambda _, parts=parts: next(parts), plain)  # type: ignore[misc]
        names = [
            name for name, part in zip(arguments, chosen, strict=False) if part.startswith("{")
        ]
        words = [part.title().replace("-", "") for part in chosen if not part.startswith("{")]
        if "server_name" in names:
            words.append("OfNamedServer")
        yield path, names, "".join(words)


def _describe(
    method: str, declared: ApiOperation, names: list[str], schemas: dict[str, Any]
) -> dict[str, Any]:
    node: dict[str, Any] = {"summary": declared.summary}
    if declared.description is not None:
        node["description"] = declared.description
    node["security"] = [{"token": [declared.scope] if declared.scope else []}]
    parameters = [*_path_parameters(names), *_query_parameters(declared, schemas)]
    if parameters:
        node["parameters"] = parameters
    body = declared.body_schema
    if declared.body is not None:
        body = _refer(declared.body, schemas)
    if body is not None:
        is_required = declared.body is not None and declared.body.is_needed()
        node["requestBody"] = {"required": is_required, "content": {JSON_TYPE: {"schema": body}}}
    node["responses"] = _responses(method, declared, schemas)
    return node


def _path_parameters(names: Iterable[str]) -> Iterator[dict[str, Any]]:
    for name in names:
        public, sentence = _PATH_PARAMETERS[name]
        yield {
            "name": public,
            "in": "path",
            "required": True,
            "description": sentence,
            "schema": {"type": "string"},
        }


def _query_parameters(declared: ApiOperation, schemas: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if declared.query is None:
        return
    for name, shape in _shape(declared.query, schemas)["properties"].items():
        sentence = shape.pop("description", None)
        yield {
            "name": name,
            "in": "query",
            "required": False,
            **({"description": sentence} if sentence else {}),
            "schema": shape,
        }


def _responses(method: str, declared: ApiOperation, schemas: dict[str, Any]) -> dict[str, Any]:
    success: dict[str, Any] = {"description": declared.answers}
    content = {}
    if declared.answer is not None:
        content[JSON_TYPE] = {"schema": _refer(declared.answer, schemas)}
    content |= {media: {"schema": {"type": "string"}} for media in declared.media}
    if content:
        success["content"] = content
    refusals = {HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE, *declared.refusals}
    if method != "get" or declared.query is not None:
        refusals.add(HTTPStatus.BAD_REQUEST)
    node = {str(declared.status.value): success}
    node |= {
        str(status.value): {"$ref": f"#/components/responses/{_REFUSALS[status][0]}"}
        for status in sorted(refusals)
    }
    if declared.trouble is not None:
        node[str(HTTPStatus.SERVICE_UNAVAILABLE.value)] = {
            "description": "A part does not work.",
            "headers": _RETRY_AFTER,
            "content": {JSON_TYPE: {"schema": _refer(declared.trouble, schemas)}},
        }
    return node


def _refer(shape: Any, schemas: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Return a reference to ``shape`` in ``schemas``; a shape without a name is returned itself."""
    found = _shape(shape, schemas)
    if "title" not in found:
        return found
    title = _public_name(found["title"])
    schemas[title] = found
    return {"$ref": _REFERENCE.format(model=title)}


def _shape(shape: Any, schemas: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    found = TypeAdapter(shape).json_schema(by_alias=True, ref_template=_REFERENCE)
    for name, inner in found.pop("$defs", {}).items():
        schemas[_public_name(name)] = _tidy(inner)
    return cast(dict[str, Any], _tidy(found))


def _tidy(node: Any) -> Any:  # noqa: ANN401
    """Return a schema whose objects allow no other properties, without the titles that pydantic makes of names."""
    if isinstance(node, list):
        return [_tidy(one) for one in node]
    if not isinstance(node, dict):
        return node
    tidy = {key: _tidy(value) for key, value in node.items()}
    if "$ref" in tidy:
        tidy["$ref"] = _public_name(tidy["$ref"])
    if isinstance(tidy.get("title"), str):
        tidy["title"] = _public_name(tidy["title"])
    if "properties" in tidy:
        tidy["additionalProperties"] = False
        for one in tidy["properties"].values():
            one.pop("title", None)
    return tidy


def _public_name(name: str) -> str:
    """Return the name of a shape without the suffix that keeps it apart from a class of the domain."""
    return name.removesuffix("Json")


def render_document() -> str:
    """Return the text of ``openapi.json``."""
    return json.dumps(build_document(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(render_document())
