"""Lease routes on a real server: authorization, and the hub's own sentences."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from conftest import ScriptedReader
from fake_hub import FakeHub
from tornado.httpclient import HTTPClientError

PATH = ("gpu-panel", "lease")
Fetch = Callable[..., Awaitable[Any]]


@pytest.fixture
def jp_environ(jp_environ: None, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start this test's server with the environment of the hub."""
    for name, value in hub.environment.items():
        monkeypatch.setenv(name, value)


async def extend(fetch: Fetch, body: str, **options: Any) -> tuple[int, dict[str, Any]]:
    answer = await fetch(*PATH, method="POST", body=body, raise_error=False, **options)
    return answer.code, json.loads(answer.body)


async def test_an_extension_reaches_the_hub_and_the_stream(
    jp_fetch: Fetch, jp_ws_fetch: Fetch, hub: FakeHub
) -> None:
    stream = await jp_ws_fetch(*PATH[:1], "stream")
    first = json.loads(str(await stream.read_message()))["lease"]
    status, lease = await extend(jp_fetch, '{"hours": 4}')
    assert status == 200
    assert lease["seconds_left"] == pytest.approx(first["seconds_left"] + 4 * 3600, abs=60)
    requests = [(request.method, request.body, request.token) for request in hub.requests]
    assert requests == [("GET", "", "token secret"), ("POST", '{"hours": 4}', "token secret")]
    await stream.read_message()  # it may have been on its way
    seen = json.loads(str(await stream.read_message()))["lease"]
    assert seen["seconds_left"] == pytest.approx(lease["seconds_left"], abs=60)
    stream.close()


async def test_the_hubs_refusal_arrives_unchanged(jp_fetch: Fetch, hub: FakeHub) -> None:
    hub.refusal = (409, '{"status": 409, "message": "Others wait: 100% taken."}')
    assert await extend(jp_fetch, '{"hours": 4}') == (409, {"message": "Others wait: 100% taken."})


@pytest.mark.parametrize("body", ["[]", "{}", '{"hours": null}', "7", "null"])
async def test_invalid_hours_are_refused_by_the_hub(
    jp_fetch: Fetch, hub: FakeHub, body: str
) -> None:
    hub.refusal = (400, '{"message": "Say by how many hours."}')
    assert await extend(jp_fetch, body) == (400, {"message": "Say by how many hours."})
    assert hub.requests[-1].body == '{"hours": null}'


async def test_a_closed_hub_is_one_sentence(jp_fetch: Fetch, hub: FakeHub) -> None:
    await hub.close()
    status, answer = await extend(jp_fetch, '{"hours": 4}')
    assert (status, answer["message"]) == (502, "The hub does not answer: try again in a moment.")


async def test_without_a_token_no_request_reaches_the_hub(jp_fetch: Fetch, hub: FakeHub) -> None:
    with pytest.raises(HTTPClientError) as refusal:
        await jp_fetch(*PATH, method="POST", body="{}", headers={"Authorization": ""})
    assert refusal.value.code == 403
    assert hub.requests == []


async def test_an_unauthorized_user_extends_nothing(
    jp_fetch: Fetch, jp_serverapp: Any, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = []

    def refuse(handler: object, user: object, action: str, resource: str) -> bool:
        requests.append((action, resource))
        return False

    monkeypatch.setattr(jp_serverapp.authorizer, "is_authorized", refuse)
    with pytest.raises(HTTPClientError) as refusal:
        await jp_fetch(*PATH, method="POST", body="{}")
    assert (refusal.value.code, requests) == (403, [("write", "gpu-panel")])
    assert hub.requests == []


async def test_a_server_without_clients_sends_no_request(
    jp_fetch: Fetch, hub: FakeHub, reader: ScriptedReader
) -> None:
    await jp_fetch("api", "status")
    assert (hub.requests, reader.count) == ([], 0)
