"""Fake hub: has the behaviour that the tests rely on."""

from __future__ import annotations

import asyncio
import json

import pytest
from conftest import eventually
from fake_hub import GOLDEN, FakeHub, RecordedRequest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError


def url_of(hub: FakeHub) -> str:
    return f"{hub.environment['JUPYTERHUB_API_URL']}/workbench/servers/lab/lease"


async def test_it_returns_its_lease_and_extends_it(hub: FakeHub) -> None:
    golden = json.loads(GOLDEN.read_text())
    client = AsyncHTTPClient()
    first = await client.fetch(url_of(hub), headers={"Authorization": "token t"})
    assert json.loads(first.body) == golden
    later = await client.fetch(url_of(hub), method="POST", body='{"hours": 2}')
    assert json.loads(later.body)["seconds_left"] == golden["seconds_left"] + 7200
    path = "/hub/api/workbench/servers/lab/lease"
    assert hub.requests == [
        RecordedRequest("GET", path, "token t", ""),
        RecordedRequest("POST", path, None, '{"hours": 2}'),
    ]


async def test_a_refusal_changes_nothing(hub: FakeHub) -> None:
    before = dict(hub.lease)
    hub.refusal = (409, '{"message": "No."}')
    with pytest.raises(HTTPClientError) as refusal:
        await AsyncHTTPClient().fetch(url_of(hub), method="POST", body='{"hours": 2}')
    assert (refusal.value.code, hub.lease) == (409, before)


async def test_it_can_be_silent_and_closed(hub: FakeHub) -> None:
    hub.is_silent = True
    asking = asyncio.ensure_future(AsyncHTTPClient().fetch(url_of(hub)))
    await eventually(lambda: len(hub.requests) == 1)
    await asyncio.sleep(0.1)
    assert not asking.done()
    hub.is_silent = False
    assert (await asking).code == 200
    await hub.close()
    with pytest.raises(OSError):
        await AsyncHTTPClient().fetch(url_of(hub))
