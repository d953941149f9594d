"""Every route answers as usual, or 503 with one sentence and ``Retry-After``, while a dependency is silent."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from spawner.hub import unavailable
from spawner.hub.handlers.openapi import DOCUMENT
from spawner.hub.unavailable import Unavailable, to_unavailable
from spawner.model import Unknown
from testing.eventually import eventually
from tests.hub.accounts import admin
from tests.hub.hub_env import HubEnvironment
from tests.hub.pages import parse
from tests.hub.people import make_group
from tests.hub.routes import METHODS, answers
from tests.hub.servers import start

Ask = tuple[str, str, Any]
Answers = dict[str, httpx.Response]
Silence = Callable[[HubEnvironment], AbstractAsyncContextManager[None]]

SEGMENTS = {
    "users": "bob",
    "groups": "vision",
    "servers": "lab",
    "gpus": "GPU-0",
    "error": "404",
    "a": "1",
}
"""Values of variable path segments, by the segment before."""
ENDS_SESSION = "/hub/logout"


# --- dependencies


@asynccontextmanager
async def silent_ledger(hub_env: HubEnvironment) -> AsyncIterator[None]:
    """Fail every transaction as a ledger does that another process has locked."""
    engine = hub_env.ledger._engine

    def fail(_: sa.Connection) -> None:
        raise sa.exc.OperationalError("BEGIN", {}, sqlite3.OperationalError("database is locked"))

    sa.event.listen(engine, "begin", fail)
    try:
        yield
    finally:
        sa.event.remove(engine, "begin", fail)


@asynccontextmanager
async def silent_agent(hub_env: HubEnvironment) -> AsyncIterator[None]:
    """Let the gpu-agent answer nothing."""
    hub_env.agent.is_silent = True
    try:
        yield
    finally:
        hub_env.agent.is_silent = False


@asynccontextmanager
async def silent_docker(hub_env: HubEnvironment) -> AsyncIterator[None]:
    """Let nothing listen on Docker's socket."""
    await hub_env.engine.hang_up()
    try:
        yield
    finally:
        await hub_env.engine.listen()


@asynccontextmanager
async def silent_hub_database(hub_env: HubEnvironment) -> AsyncIterator[None]:
    """Hold the write lock of the hub's database, as another process does."""
    file = hub_env.folder / "jupyterhub.sqlite"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


SILENCES: dict[str, Silence] = {
    "ledger": silent_ledger,
    "agent": silent_agent,
    "docker": silent_docker,
    "hub database": silent_hub_database,
}
NEEDED = {
    "ledger": "GET /hub/api/workbench/queue",
    "agent": "POST /hub/api/workbench/gpus/GPU-0/drain",
    "hub database": "GET /hub/home",
}
"""A request that cannot be answered without the dependency; no route needs Docker, only a start does."""


# --- requests


def all_requests(hub_env: HubEnvironment) -> list[Ask]:
    """Return a GET of every registered route that has one, and every operation of the OpenAPI document."""
    document = json.loads(DOCUMENT.read_text())
    operations = {
        (method.upper(), fill(f"/hub/api{path}")): build_body(document, operation)
        for path, node in document["paths"].items()
        for method, operation in node.items()
        if method in METHODS
    }
    pages = {
        ("GET", fill(pattern)): None
        for pattern, handler, *_ in hub_env.hub.handlers
        if answers(handler, "get")
    }
    # reversed: a GPU is undrained before it is drained, so that one failure does not change the other answer
    requests = [(*ask, body) for ask, body in reversed({**pages, **operations}.items())]
    return [one for one in requests if one[1] != ENDS_SESSION]


def fill(pattern: str) -> str:
    """Return a path that matches ``pattern``, of a route or of the OpenAPI document."""
    plain = re.sub(r"\(\?P<\w+>", "(", pattern).removesuffix("$").removesuffix("/?")
    plain = plain.replace("[.]", ".").replace("\\.", ".").replace("(?!health).*", "nowhere")
    plain = re.sub(r"\(\?:[^()]*\([^()]*\)\)\?|\(/\.\*\)\?", "", plain)
    path = ""
    for part in re.split(r"(\([^()]*\)\??|\{\w+\})", plain):
        group = part.strip("()?")
        if part.startswith("(") and re.fullmatch(r"[\w|-]+", group):
            path += group.partition("|")[0]
        elif part.startswith(("(", "{")):
            before = path.rstrip("/").rpartition("/")[2]
            path += SEGMENTS.get(before, "0123456789abcdef")
        else:
            path += part
    return path


def build_body(document: dict[str, Any], operation: dict[str, Any]) -> Any:
    """Return the smallest valid body of an operation, None if it has none."""
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return None
    return build_example(document, content["application/json"]["schema"])


def build_example(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """Return a small value that ``schema`` allows."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/components/schemas/")
        return build_example(document, document["components"]["schemas"][name])
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kinds = schema.get("type", "object")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if kind == "object":
        names = schema.get("required", ())
        return {name: build_example(document, schema["properties"][name]) for name in names}
    return {"string": "x", "integer": 1, "number": 1, "array": [], "boolean": False}[kind]


@dataclass(frozen=True)
class Admin:
    """An admin of a hub: ``rest`` has a token, ``browser`` has cookies."""

    hub_env: HubEnvironment
    rest: httpx.AsyncClient
    browser: httpx.AsyncClient

    async def send_all(self) -> Answers:
        """Send every request once."""
        found: Answers = {}
        for method, path, body in all_requests(self.hub_env):
            client = self.rest if path.startswith("/hub/api") else self.browser
            async with client.stream(method, path, json=body) as answer:
                if answer.headers.get("Content-Type") != "text/event-stream":
                    await answer.aread()
            found[f"{method} {path}"] = answer
        return found


def read_sentence(answer: httpx.Response) -> str:
    """Return what an error says, of JSON, a page or plain text."""
    kind = answer.headers["Content-Type"].partition(";")[0]
    if kind == "application/json":
        return str(answer.json()["message"])
    if kind == "text/plain":
        return answer.text
    return " ".join(p.get_text(" ", strip=True) for p in parse(answer.text).select(".error p"))


def is_one_sentence(text: str) -> bool:
    return text[-1:] in {".", "!", "?"} and len(re.findall(r"[.!?](?=\s|$)", text)) == 1


def faults(usual: Answers, silent: Answers) -> Iterator[str]:
    """Yield each answer that is neither the usual one nor a proper 503."""
    for request, answer in silent.items():
        if answer.status_code == usual[request].status_code:
            continue
        if answer.status_code != 503:
            yield f"{request}: {answer.status_code}, usually {usual[request].status_code}"
        elif int(answer.headers.get("Retry-After", 0)) < 1:
            yield f"{request}: no Retry-After"
        elif not is_one_sentence(read_sentence(answer)):
            yield f"{request}: {read_sentence(answer)!r}"


# --- tests


@pytest.fixture
async def root(hub_env: HubEnvironment) -> AsyncIterator[Admin]:
    """An admin who has a server, in a hub with another user and a group."""
    async with admin(hub_env) as browser, hub_env.client("admin", is_admin=True) as rest:
        hub_env.user("bob")
        make_group(hub_env, "vision", "bob")
        hub_env.agent.rest(0)
        assert (await start(hub_env, "admin", {"gpus": 1}))[0] == 201
        yield Admin(hub_env, rest, browser)


async def test_every_route_is_requested(root: Admin) -> None:
    asked = {path for method, path, _ in all_requests(root.hub_env) if method == "GET"}
    missing = [
        pattern
        for pattern, handler, *_ in root.hub_env.hub.handlers
        if answers(handler, "get") and not any(re.fullmatch(pattern, path) for path in asked)
    ]
    assert missing == [ENDS_SESSION]
    assert len(asked) > 60


@pytest.mark.parametrize("dependency", SILENCES)
async def test_every_route_answers_without_a_dependency(root: Admin, dependency: str) -> None:
    await root.send_all()  # from the second time on, the answers stay the same
    usual = await root.send_all()
    assert [
        f"{request}: {a.status_code}" for request, a in usual.items() if a.is_server_error
    ] == []
    async with SILENCES[dependency](root.hub_env):
        silent = await root.send_all()
    assert [*faults(usual, silent)] == []
    if dependency in NEEDED:
        assert silent[NEEDED[dependency]].status_code == 503, "the dependency was not silent"


SPAWN_NEEDS = ("ledger", "agent", "docker", "hub database")


@pytest.mark.parametrize("dependency", SPAWN_NEEDS)
async def test_a_start_without_a_dependency_is_refused_and_leaves_nothing(
    root: Admin, dependency: str
) -> None:
    async with root.hub_env.client("bob") as bob:
        async with SILENCES[dependency](root.hub_env):
            answer = await bob.post("/hub/api/users/bob/server", json={"gpus": 1})
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["Retry-After"]) > 0
        assert is_one_sentence(read_sentence(answer)), answer.text
        await eventually(lambda: root.hub_env.leftovers("bob") == {}, "nothing is left of it")
        again = await bob.post("/hub/api/users/bob/server", json={"gpus": 1})
        assert again.status_code in (201, 202), again.text


@pytest.mark.parametrize("path", ["users/bob", "groups/vision"])
@pytest.mark.parametrize("dependency", ["ledger", "hub database"])
async def test_a_deletion_without_a_dependency_deletes_nothing(
    root: Admin, dependency: str, path: str
) -> None:
    async with SILENCES[dependency](root.hub_env):
        answer = await root.rest.delete(f"/hub/api/{path}")
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    assert is_one_sentence(read_sentence(answer)), answer.text
    assert (await root.rest.get(f"/hub/api/{path}")).status_code == 200
    assert (await root.rest.delete(f"/hub/api/{path}")).status_code == 204


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Docker failed.", "Docker failed; try again in a moment."),
        ("Docker failed", "Docker failed; try again in a moment."),
        ("It failed: a.b.c.", "It failed: a.b.c; try again in a moment."),
    ],
)
def test_the_silence_of_a_dependency_is_one_sentence(text: str, said: str) -> None:
    error = to_unavailable(Unknown(text))
    assert error is not None
    assert (error.status_code, error.jupyterhub_message) == (503, said)
    assert is_one_sentence(said)


def test_every_other_error_stays_what_it_is() -> None:
    assert to_unavailable(ValueError("x")) is None
    assert to_unavailable(None) is None
    error = Unavailable("Busy.")
    assert to_unavailable(error) is error


async def test_a_hub_database_that_is_gone_is_no_log_out(root: Admin) -> None:
    file = root.hub_env.folder / "jupyterhub.sqlite"
    root.hub_env.hub.tornado_application.settings.pop(unavailable._PROBE)
    moved = file.rename(file.with_suffix(".moved"))
    answers_ = [await root.browser.get("/hub/home"), await root.rest.get("/hub/api/user")]
    assert not file.exists(), "the probe must not create an empty database"
    moved.rename(file)
    assert [answer.status_code for answer in answers_] == [503, 503]
    assert "set-cookie" not in answers_[0].headers
    assert (await root.browser.get("/hub/home")).status_code == 200


async def test_a_file_that_breaks_off_is_no_whole_file(
    root: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, chunks = root.hub_env.ledger, 0
    read = ledger.trail

    def fail_at_second_chunk(*args: Any, **options: Any) -> Any:
        nonlocal chunks
        chunks += 1
        if chunks > 1:
            raise Unknown("The ledger cannot be reached.")
        return read(*args, **options)

    monkeypatch.setattr(ledger, "trail", fail_at_second_chunk)
    with pytest.raises(httpx.RemoteProtocolError):
        await root.browser.get("/hub/audit/trail.csv")
