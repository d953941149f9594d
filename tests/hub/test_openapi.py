"""The REST API as it is written down: every route is in the document, and nothing else is."""

import json
import re
from typing import Any

from spawner.hub.handlers.openapi import DOCUMENT
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
