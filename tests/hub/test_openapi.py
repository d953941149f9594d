"""The REST API as it is written down: every route is in the document, and nothing else is."""

import json
import re
from typing import Any

import pytest

from spawner.hub.handlers.gpus import GpusHandler
from spawner.hub.handlers.openapi import DOCUMENT
from spawner.hub.handlers.openapi_document import build_document, render_document
from tests.hub.hub_env import HubEnvironment
from tests.hub.routes import METHODS, PREFIX, answers, own_routes


def written() -> set[tuple[str, str]]:
    """Return (a path of the document with its parts filled in, method)."""
    paths = json.loads(DOCUMENT.read_text())["paths"]
    return {
        (PREFIX + re.sub(r"\{\w+\}", "x", path), method)
        for path, node in paths.items()
        for method in METHODS
        if method in node
    }


def test_every_route_is_written_down() -> None:
    found = written()
    missing = [
        (pattern.pattern, method)
        for pattern, handler in own_routes()
        for method in METHODS
        if answers(handler, method)
        and not any(pattern.match(path) and m == method for path, m in found)
    ]
    assert missing == []


def test_whatever_is_written_down_is_there() -> None:
    routes = own_routes()
    invented = []
    for path, method in written():
        handler = next((handler for pattern, handler in routes if pattern.match(path)), None)
        if handler is None or not answers(handler, method):
            invented.append((path, method))
    assert invented == []


def test_the_document_is_the_one_of_the_code() -> None:
    assert DOCUMENT.read_text() == render_document(), (
        "run python -m spawner.hub.handlers.openapi_document"
    )


def test_a_method_without_a_declaration_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(GpusHandler.get, "operation")
    with pytest.raises(LookupError, match=r"GpusHandler\.get has no @operation"):
        build_document()


FREE = {
    "TrailEntry.before": "a trail entry holds whatever its action changed",
    "TrailEntry.after": "a trail entry holds whatever its action changed",
    "Changes.devices": "only the changed fields of a tile",
}


def test_no_object_is_bare() -> None:
    schemas = json.loads(DOCUMENT.read_text())["components"]["schemas"]
    bare = set()

    def follow(node: Any, name: str) -> None:
        if isinstance(node, list):
            for one in node:
                follow(one, name)
        if not isinstance(node, dict):
            return
        if node.get("type") == "object" and "properties" not in node:
            values = node.get("additionalProperties", True)
            if values is True:
                bare.add(name)
            follow(values, name)
        for key, value in node.get("properties", {}).items():
            follow(value, f"{name}.{key}")
        for key in ("anyOf", "items", "allOf"):
            follow(node.get(key), name)

    for name, node in schemas.items():
        follow(node, name)
    assert bare == FREE.keys()


DOUBLE = {
    "devices": "the changes of some devices, by index, are no list of them",
    "groups": "a quota file holds rows by name",
}


def test_a_name_has_one_type_in_all_shapes() -> None:
    schemas = json.loads(DOCUMENT.read_text())["components"]["schemas"]
    found: dict[str, set[str]] = {}
    for shape in schemas.values():
        for name, value in shape.get("properties", {}).items():
            for one in value.get("anyOf", [value]):
                node = one
                while "$ref" in node:
                    node = schemas[node["$ref"].rpartition("/")[2]]
                types = node.get("type", "constant")
                found.setdefault(name, set()).update([types] if isinstance(types, str) else types)
    for types in found.values():
        types -= {"null", "integer"} if "number" in types else {"null"}
    assert {name for name, types in found.items() if len(types) > 1} == DOUBLE.keys()


def test_every_reference_leads_somewhere() -> None:
    document = json.loads(DOCUMENT.read_text())

    def follow(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                place: Any = document
                for part in node["$ref"].removeprefix("#/").split("/"):
                    place = place[part]
            for value in node.values():
                follow(value)
        elif isinstance(node, list):
            for value in node:
                follow(value)

    follow(document)
    ids = [
        op["operationId"]
        for node in document["paths"].values()
        for method, op in node.items()
        if method in METHODS
    ]
    assert len(ids) == len(set(ids))


async def test_who_has_a_token_reads_it(hub_env: HubEnvironment) -> None:
    async with hub_env.client("alice") as client, hub_env.browser() as stranger:
        answer = await client.get("/hub/api/workbench/openapi.json")
        refused = await stranger.get("/hub/api/workbench/openapi.json")
    assert answer.json() == json.loads(DOCUMENT.read_text())
    assert refused.status_code == 403
