"""Roles: every page and REST route as every role, compared with the committed table ``roles.json``.

The table holds the statuses; an allowed request is answered 400, because no route takes the body that is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from spawner.hub.handlers.routes import build_routes
from tests.hub.accounts import admin, join
from tests.hub.hub_env import HubEnvironment
from tests.hub.people import give_scopes, make_group, make_service
from tests.hub.routes import METHODS, PREFIX, answers, own_routes

TABLE = Path(__file__).with_name("roles.json")
ROLES = ("anonymous", "user", "group admin", "admin", "service")
BOTH = ("GET", "PUT", "DELETE")
PEOPLE_ORDERS = ("approve", "unapprove", "decline", "log-out", "password-link")
SERVERS = ("server", "servers/lab")
SERVER_ACTIONS = ("activity", "keep-alive", "requeue")
REST = [
    *(
        f"GET /workbench/{path}"
        for path in ("openapi.json", "queue", "gpus", "gpus/stream", "health")
    ),
    *(f"{method} /workbench/{server}/lease" for server in SERVERS for method in ("GET", "POST")),
    *(f"POST /workbench/gpus/GPU-0/{order}" for order in ("release", "drain", "undrain")),
    "POST /workbench/leases/0123456789abcdef/end",
    "PATCH /workbench/queue/0123456789abcdef",
    *(f"{method} /workbench/quotas" for method in ("GET", "POST")),
    *(f"{method} /workbench/quotas/default" for method in BOTH),
    *(f"{method} /workbench/quotas/groups/vision" for method in BOTH),
    *(f"{method} /workbench/quotas/groups/chess" for method in BOTH),
    *(f"{method} /workbench/quotas/users/bob" for method in BOTH),
    *(f"GET /workbench/quotas/users/{name}/effective" for name in ("alice", "bob", "carl")),
    "GET /workbench/homes",
    "POST /workbench/homes/wb-home-alice-1/remove",
    "POST /workbench/homes/wb-home-alice-1/mend",
    "GET /workbench/trail",
    "GET /workbench/people",
    "GET /workbench/people/bob",
    *(f"POST /workbench/people/bob/{what}" for what in PEOPLE_ORDERS),
    "PUT /workbench/people/bob/groups",
    *(f"POST /workbench/{server}/{what}" for server in SERVERS for what in SERVER_ACTIONS),
    *(f"GET /workbench/usage?by={what}" for what in ("user", "group")),
    *(f"GET /{path}" for path in ("users", "users/alice", "users/bob", "groups", "groups/vision")),
    *(f"GET /{path}" for path in ("info", "proxy", "services", "no/such/thing")),
    "POST /users/bob/server",
    "DELETE /users/bob/server",
    "POST /groups/vision/users",
]
PAGES = [
    *("home", "token", "admin", "people", "change-password", "change-password/bob", "login"),
    *("signup", "metrics", "health", "queue", "gpus", "usage", "usage.csv", "quotas"),
    *("help", "help/toolkit", "confirm"),
    *("quotas?user=alice", "quotas?user=bob", "audit", "audit/trail.csv", "audit/trail.jsonl"),
    *("spawn", "spawn/alice", "spawn/bob", "spawn/bob/second", "workbench/static/gpu-map.js"),
    *("log-out-everywhere", "people/bob", "people/bob/approve", "token/a1/revoke"),
]

Clients = dict[str, tuple[httpx.AsyncClient, httpx.AsyncClient | None]]
"""For each role a client with its token, and a browser where it has one."""


@pytest.fixture
async def everybody(hub_env: HubEnvironment) -> AsyncIterator[Clients]:
    """Return for each role a client with its token, and a browser where it has one."""
    async with AsyncExitStack() as stack:

        async def browser(name: str) -> httpx.AsyncClient:
            opened = await stack.enter_async_context(hub_env.browser())
            await join(hub_env, opened, name)
            return opened

        browsers = {"user": await browser("alice"), "group admin": await browser("gina")}
        browsers["admin"] = await stack.enter_async_context(admin(hub_env))
        browsers["anonymous"] = await stack.enter_async_context(hub_env.browser())
        for name in ("bob", "carl"):
            hub_env.user(name)
        make_group(hub_env, "vision", "bob")
        make_group(hub_env, "chess", "carl")
        reads = [f"custom:workbench:read:{what}!group=vision" for what in ("quotas", "usage")]
        give_scopes(hub_env, hub_env.user("gina").orm_user, *reads)
        clients = {
            "anonymous": hub_env.browser(),
            "user": hub_env.client("alice"),
            "group admin": hub_env.client("gina"),
            "admin": hub_env.client("admin"),
            "service": make_service(
                hub_env, "dashboard", "custom:workbench:read:gpus", "custom:workbench:read:usage"
            ),
        }
        for client in clients.values():
            await stack.enter_async_context(client)
        yield {role: (clients[role], browsers.get(role)) for role in ROLES}


async def send_request(client: httpx.AsyncClient, method: str, path: str) -> int:
    """Return the status; a body is sent that no route takes, so that nothing is changed."""
    body: list[object] | None = None if method == "GET" else []
    async with client.stream(method, path, json=body) as answer:
        return answer.status_code


async def test_everyone_may_what_the_table_states(
    everybody: Clients,
) -> None:
    found: dict[str, dict[str, int]] = {}
    for line in REST:
        method, path = line.split(" ", 1)
        found[line] = {
            role: await send_request(client, method, f"/hub/api{path}")
            for role, (client, _) in everybody.items()
        }
    for page in PAGES:
        found[f"page /{page}"] = {
            role: await send_request(browser, "GET", f"/hub/{page}")
            for role, (_, browser) in everybody.items()
            if browser is not None
        }
    told = json.loads(TABLE.read_text())
    assert list(told) == list(found)
    differences = {line: row for line, row in found.items() if row != told[line]}
    assert differences == {}, "the table says otherwise"


def test_no_route_is_left_out() -> None:
    rest = [line.split(" ", 1) for line in REST]
    asked = {(method.lower(), PREFIX + path.partition("?")[0]) for method, path in rest}
    pages = [f"/{page.partition('?')[0]}" for page in PAGES]
    missing = [
        (pattern.pattern, method)
        for pattern, handler in own_routes()
        for method in METHODS
        if answers(handler, method)
        and not any(pattern.match(path) and m == method for m, path in asked)
    ]
    missing += [
        (route[0], "page")
        for route in build_routes(lambda: None)  # type: ignore[arg-type, return-value]
        if not route[0].startswith(PREFIX)
        and not any(re.fullmatch(route[0], page) for page in pages)
    ]
    assert missing == []
