"""Every door by which options come in leads to the one schema, and a refusal leaves nothing behind."""

import json
from typing import Any

import httpx
import pytest

from spawner.model import Lease, LeaseState
from tests.hub.test_sign_up import join
from tests.hub.test_spawn import start
from tests.hub.town import Town, eventually, xsrf_of

BAD: dict[str, tuple[str, str]] = {
    "negative": ('{"gpus": -1}', "-1"),
    "text": ('{"gpus": "two"}', "two"),
    "a number as text": ('{"gpus": "1"}', "'1'"),
    "not a number": ('{"gpus": NaN}', "nan"),
    "huge": ('{"gpus": 1e9}', "1000000000"),
    "very huge": ('{"gpus": 100000000000000000000000}', "1000000"),
    "a fraction": ('{"gpus": 0.5}', "0.5"),
    "a truth value": ('{"gpus": true}', "True"),
    "a list": ('{"gpus": [1]}', "[1]"),
    "nothing": ('{"gpus": null}', "None"),
    "an unknown key": ('{"gpus": 1, "image": "evil"}', "image"),
    "an unknown release": ('{"release": "v9"}', "v9"),
    "a release that is no text": ('{"release": 7}', "int"),
    "nested": ('{"user_options": {"gpus": -1}}', "-1"),
    "more than there are": ('{"gpus": 3}', "has 2"),
    "hours as text": ('{"hours": "1"}', "'1'"),
    "no hours": ('{"hours": 0}', "0.01"),
    "hours that are no number": ('{"hours": NaN}', "nan"),
    "hours without end": ('{"hours": Infinity}', "inf"),
    "hours that are a truth value": ('{"hours": true}', "True"),
    "a list of hours": ('{"hours": [1]}', "[1]"),
}


@pytest.mark.parametrize("bad", BAD)
async def test_rest_refuses_with_one_sentence_and_leaves_nothing(town: Town, bad: str) -> None:
    body, word = BAD[bad]
    async with town.client("alice") as client:
        answer = await client.post("/hub/api/users/alice/server", content=body)
        assert answer.status_code == 400, answer.text
        message = answer.json()["message"]
        assert word in message
        assert_one_sentence(message)
        assert town.leftovers("alice") == {}
        again = await client.post("/hub/api/users/alice/server", json={"gpus": 1})
    assert again.status_code == 201, again.text


@pytest.mark.parametrize("body", ["[1]", '"x"', "7", "{", '{"user_options": [1]}'])
async def test_rest_refuses_what_is_no_object(town: Town, body: str) -> None:
    async with town.client("alice") as client:
        answer = await client.post("/hub/api/users/alice/server", content=body)
    assert answer.status_code == 400, answer.text
    assert_one_sentence(answer.json()["message"])


WISH = {"gpus": 2, "hours": 3}


async def rest(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/hub/api/users/alice/server", json={"user_options": WISH})


async def rest_with_a_name(client: httpx.AsyncClient) -> httpx.Response:
    body = {"display_name": "", "user_options": WISH}
    return await client.post("/hub/api/users/alice/server", json=body)


async def legacy_rest(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/hub/api/users/alice/server", json=WISH)


async def stored_by_patch(client: httpx.AsyncClient) -> httpx.Response:
    await client.patch("/hub/api/users/alice/server", json={"user_options": WISH})
    return await client.post("/hub/api/users/alice/server")


@pytest.mark.parametrize("door", [rest, rest_with_a_name, legacy_rest, stored_by_patch])
@pytest.mark.parametrize("is_full", [False, True])
async def test_every_door_leads_to_the_same_line(town: Town, door: Any, is_full: bool) -> None:
    if is_full:
        assert (await start(town, "bob", {"gpus": 1}))[0] == 201
        town.be_brisk()
    town.user("alice").spawner  # noqa: B018 - makes the row that PATCH changes
    async with town.client("alice") as client:
        answer = await door(client)
    assert answer.status_code == (202 if is_full else 201), answer.text

    def own() -> list[Lease]:
        return [lease for lease in town.live() if lease.user == "alice"]

    (lease,) = await eventually(own, "alice has a lease")
    assert (lease.gpu_count, lease.hours) == (2, 3.0)
    assert lease.state is (LeaseState.WAITING if is_full else LeaseState.RUNNING)


async def test_a_server_that_was_only_described_is_no_door(town: Town) -> None:
    async with town.client("alice") as client:
        created = await client.put("/hub/api/users/alice/server", json={"user_options": WISH})
        named = await client.post("/hub/api/users/alice/servers/second", json=WISH)
    assert (created.status_code, named.status_code) == (409, 400)
    assert town.live() == []


async def test_options_stored_by_another_call_are_checked_at_the_start(town: Town) -> None:
    town.user("alice").spawner  # noqa: B018 - makes the row that PATCH changes
    async with town.client("alice") as client:
        stored = await client.patch(
            "/hub/api/users/alice/server", json={"user_options": {"volumes": "/:/host"}}
        )
        assert stored.status_code == 200, stored.text
        answer = await client.post("/hub/api/users/alice/server")
    assert answer.status_code == 400
    assert "volumes" in answer.json()["message"]
    assert town.leftovers("alice") == {}


@pytest.mark.parametrize(
    ("form", "word"),
    [
        ({"gpus": "-1"}, "-1"),
        ({"gpus": "two"}, "two"),
        ({"gpus": "NaN"}, "NaN"),
        ({"gpus": "1e9"}, "1e9"),
        ({"gpus": "99999999999999999999"}, "99999"),
        ({"gpus": "1.0"}, "1.0"),
        ({"gpus": "²"}, "²"),
        ({"gpus": ["1", "2"]}, "1"),
        ({"gpus": "1", "image": "evil"}, "image"),
        ({"gpus": "1", "hours": "forever"}, "forever"),
        ({"gpus": "1", "hours": "nan"}, "nan"),
        ({"gpus": "1", "hours": "-1"}, "-1"),
        ({"release": "<script>alert(1)</script>"}, "&lt;script&gt;"),
    ],
)
async def test_the_form_says_what_is_wrong_and_can_be_sent_again(
    town: Town, form: dict[str, Any], word: str
) -> None:
    async with town.browser() as browser:
        await join(town, browser, "alice")
        page = await browser.get("/hub/spawn/alice")
        answer = await browser.post(f"/hub/spawn/alice?_xsrf={xsrf_of(page.text)}", data=form)
        assert answer.status_code == 400
        assert word in answer.text
        assert "spawn_form" in answer.text
        assert "<script>alert" not in answer.text
        assert town.leftovers("alice") == {}
        again = await browser.post(
            f"/hub/spawn/alice?_xsrf={xsrf_of(page.text)}",
            data={"gpus": "1", "release": "v2.7", "hours": "1.5"},
        )
    assert again.status_code == 302, again.text
    assert [(lease.gpu_uuids, lease.hours) for lease in town.live()] == [(("GPU-0",), 1.5)]


async def test_an_uploaded_file_is_no_option(town: Town) -> None:
    async with town.browser() as browser:
        await join(town, browser, "alice")
        page = await browser.get("/hub/spawn/alice")
        answer = await browser.post(
            f"/hub/spawn/alice?_xsrf={xsrf_of(page.text)}", files={"x": b"y"}, data={"gpus": "1"}
        )
    assert answer.status_code == 400
    assert "x_file" in answer.text
    assert town.leftovers("alice") == {}


@pytest.mark.parametrize("query", ["opt-gpus=1", "gpus=1", "opt-gpus=1&opt-release=v2.7"])
async def test_a_link_starts_nothing(town: Town, query: str) -> None:
    async with town.browser() as browser:
        await join(town, browser, "alice")
        answer = await browser.get(f"/hub/spawn/alice?{query}")
    assert answer.status_code == 400
    assert "A link cannot start a server" in answer.text
    assert "spawn_form" in answer.text
    assert town.leftovers("alice") == {}


async def test_a_form_of_another_site_starts_nothing(town: Town) -> None:
    async with town.browser() as browser:
        await join(town, browser, "alice")
        answer = await browser.post(
            "/hub/spawn/alice", data={"gpus": "1"}, headers={"Sec-Fetch-Site": "cross-site"}
        )
    assert answer.status_code == 403
    assert town.leftovers("alice") == {}


async def test_nobody_starts_the_server_of_another(town: Town) -> None:
    town.user("bob")
    async with town.client("alice") as client:
        answer = await client.post("/hub/api/users/bob/server", json={"gpus": 1})
    assert answer.status_code == 404
    assert town.live() == []


def assert_one_sentence(message: str) -> None:
    assert message.strip() == message != ""
    assert "\n" not in message
    assert "Traceback" not in message
    assert len(message) < 300


def test_the_table_of_bad_bodies_is_json_as_a_client_may_send_it() -> None:
    for body, _ in BAD.values():
        json.loads(body)
