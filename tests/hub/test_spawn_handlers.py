"""Spawn handlers: options from every route pass the one schema, and a refusal leaves nothing behind."""

import asyncio
from typing import Any

import httpx
import pytest

from spawner.model import Lease, LeaseState
from testing.eventually import eventually
from tests.hub.accounts import join
from tests.hub.hub_env import HubEnvironment, xsrf_of
from tests.hub.servers import start

BAD: dict[str, tuple[str, str]] = {
    "negative": ('{"gpus": -1}', "-1"),
    "text": ('{"gpus": "two"}', "two"),
    "a number as text": ('{"gpus": "1"}', "'1'"),
    "not a number": ('{"gpus": NaN}', "NaN"),
    "huge": ('{"gpus": 1e9}', "1000000000"),
    "very huge": ('{"gpus": 100000000000000000000000}', "too large"),
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
    "hours that are no number": ('{"hours": NaN}', "NaN"),
    "hours without end": ('{"hours": Infinity}', "Infinity"),
    "hours beyond any float": ('{"hours": 1e999}', "too large"),
    "the same twice": ('{"gpus": 0, "gpus": 1}', "twice"),
    "half a surrogate": ('{"release": "\\ud800"}', "surrogate"),
    "deep": ('{"gpus": ' + "[" * 100 + "]" * 100 + "}", "nested"),
    "too deep to read": ('{"gpus": ' + "[" * 100_000, "not JSON"),
    "more digits than Python reads": ('{"gpus": ' + "9" * 5000 + "}", "not JSON"),
    "options that are none": ('{"user_options": 7}', "user_options"),
    "hours that are a truth value": ('{"hours": true}', "True"),
    "a list of hours": ('{"hours": [1]}', "[1]"),
}


@pytest.mark.parametrize("bad", BAD)
async def test_rest_refuses_with_one_sentence_and_leaves_nothing(
    hub_env: HubEnvironment, bad: str
) -> None:
    body, word = BAD[bad]
    async with hub_env.client("alice") as client:
        answer = await client.post("/hub/api/users/alice/server", content=body)
        assert answer.status_code == 400, answer.text
        message = answer.json()["message"]
        assert word in message
        assert_one_sentence(message)
        assert hub_env.leftovers("alice") == {}
        again = await client.post("/hub/api/users/alice/server", json={"gpus": 1})
    assert again.status_code == 201, again.text


@pytest.mark.parametrize("body", ["[1]", '"x"', "7", "{", '{"user_options": [1]}'])
async def test_rest_refuses_what_is_no_object(hub_env: HubEnvironment, body: str) -> None:
    async with hub_env.client("alice") as client:
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
async def test_every_route_leads_to_the_same_line(
    hub_env: HubEnvironment, door: Any, is_full: bool
) -> None:
    if is_full:
        assert (await start(hub_env, "bob", {"gpus": 1}))[0] == 201
        hub_env.be_brisk()
    hub_env.user("alice").spawner  # noqa: B018 - makes the row that PATCH changes
    async with hub_env.client("alice") as client:
        answer = await door(client)
    assert answer.status_code == (202 if is_full else 201), answer.text

    def own() -> list[Lease]:
        return [lease for lease in hub_env.live() if lease.user == "alice"]

    (lease,) = await eventually(own, "alice has a lease")
    assert (lease.gpu_count, lease.hours) == (2, 3.0)
    assert lease.state is (LeaseState.WAITING if is_full else LeaseState.RUNNING)


BAD_OPTIONS = {"volumes": "/:/host"}


@pytest.mark.parametrize("method", ["PATCH", "PUT", "POST"])
async def test_what_is_not_of_the_schema_is_not_even_stored(
    hub_env: HubEnvironment, method: str
) -> None:
    async with hub_env.client("alice") as client:
        await client.put("/hub/api/users/alice/servers/first", json={"user_options": WISH})
        url = f"/hub/api/users/alice/servers/{'first' if method == 'PATCH' else 'second'}"
        answer = await client.request(method, url, json={"user_options": BAD_OPTIONS})
    assert answer.status_code == 400, answer.text
    assert "volumes" in answer.json()["message"]
    rows = hub_env.user("alice").orm_spawners
    assert {name: row.user_options for name, row in rows.items() if name} == {"first": WISH}


async def test_options_stored_some_other_way_are_checked_at_the_start(
    hub_env: HubEnvironment,
) -> None:
    hub_env.user("alice").spawner.orm_spawner.user_options = BAD_OPTIONS
    hub_env.hub.db.commit()
    async with hub_env.client("alice") as client:
        answer = await client.post("/hub/api/users/alice/server")
    assert answer.status_code == 400
    assert "volumes" in answer.json()["message"]
    assert hub_env.leftovers("alice") == {}


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "display_name"),
        ({"name": "other"}, "display_name"),
        ({"environment": {}}, "display_name"),
        ({"display_name": "x"}, "default server"),
        ({"user_options": None}, "user_options"),
    ],
)
async def test_a_server_can_be_described_anew_and_nothing_else(
    hub_env: HubEnvironment, body: dict[str, Any], word: str
) -> None:
    hub_env.user("alice").spawner  # noqa: B018 - makes its row
    async with hub_env.client("alice") as client:
        answer = await client.patch("/hub/api/users/alice/server", json=body)
    assert answer.status_code == 400, answer.text
    assert word in answer.json()["message"]


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("users/alice/tokens", '{"expires_in": 99999999999}', "expires_in"),
        ("users/alice/tokens", '{"expires_in": -1}', "expires_in"),
        ("users/alice/tokens", '{"note": {}}', "note"),
        ("users/alice/activity", '{"last_activity": "0001-01-01T00:00:00+14:00"}', "last_activity"),
        ("users/alice/activity", '{"servers": {"": 7}}', "servers"),
        ("users/alice/server", "[]", "object"),
        ("workbench/server/lease", "[]", "object"),
    ],
)
async def test_what_jupyterhub_itself_would_stumble_over_is_one_sentence(
    hub_env: HubEnvironment, path: str, body: str, word: str
) -> None:
    async with hub_env.client("alice") as client:
        answer = await client.post(f"/hub/api/{path}", content=body)
    assert answer.status_code == 400, answer.text
    assert word in answer.json()["message"]
    assert_one_sentence(answer.json()["message"])


async def test_an_admin_cannot_break_a_user_through_the_api(hub_env: HubEnvironment) -> None:
    hub_env.user("bob")
    bodies = [{"groups": ["x"]}, {"roles": ["admin"]}, {"auth_state": {}}, {"environment": {}}, {}]
    async with hub_env.client("root", is_admin=True) as client:
        answers = [await client.patch("/hub/api/users/bob", json=body) for body in bodies]
        same = await client.patch("/hub/api/users/bob", json={"name": "bob", "admin": False})
        odd = await client.post("/hub/api/users/%00bob")
    assert [answer.status_code for answer in (*answers, odd)] == [400] * 6
    assert same.status_code == 200, same.text
    assert hub_env.user("bob").name == "bob"


async def test_who_waits_for_a_start_that_another_user_stops_sees_it(
    hub_env: HubEnvironment,
) -> None:
    hub_env.servers.is_mute = True
    async with hub_env.client("alice") as client:
        starting = asyncio.create_task(client.post("/hub/api/users/alice/server", json={"gpus": 1}))
        await eventually(lambda: hub_env.user("alice").spawner.pending == "spawn", "it starts")
        await eventually(hub_env.live, "it has its GPU")
        await client.delete("/hub/api/users/alice/server")
        answer = await starting
    assert answer.status_code == 409, answer.text
    assert answer.json()["message"] == "This server was stopped while it started."


@pytest.mark.parametrize("query", ["opt-gpus=%ff", "next=%ff"])
async def test_a_field_that_is_no_text_is_refused(hub_env: HubEnvironment, query: str) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        page = await browser.get("/hub/spawn/alice")
        got = await browser.get(f"/hub/spawn/alice?{query}")
        posted = await browser.post(
            f"/hub/spawn/alice?_xsrf={xsrf_of(page.text)}",
            content=b"gpus=%ff",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
    assert (got.status_code, posted.status_code) == (400, 400)
    assert hub_env.leftovers("alice") == {}


async def test_a_refused_form_leaves_no_traceback_in_the_log(
    hub_env: HubEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        page = await browser.get("/hub/spawn/alice?opt-gpus=1")
        await browser.post(f"/hub/spawn/alice?_xsrf={xsrf_of(page.text)}", data={"gpus": "-1"})
    assert "'-1' is not a number of GPUs" in caplog.text
    assert "Traceback" not in caplog.text


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
async def test_the_form_states_what_is_wrong_and_can_be_sent_again(
    hub_env: HubEnvironment, form: dict[str, Any], word: str
) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        page = await browser.get("/hub/spawn/alice")
        answer = await browser.post(f"/hub/spawn/alice?_xsrf={xsrf_of(page.text)}", data=form)
        assert answer.status_code == 400
        assert word in answer.text
        assert "spawn_form" in answer.text
        assert "<script>alert" not in answer.text
        assert hub_env.leftovers("alice") == {}
        again = await browser.post(
            f"/hub/spawn/alice?_xsrf={xsrf_of(page.text)}",
            data={"gpus": "1", "release": "v2.7", "hours": "1.5"},
        )
    assert again.status_code == 302, again.text
    await eventually(lambda: any(lease.gpu_uuids for lease in hub_env.live()), "it was granted")
    assert [(lease.gpu_uuids, lease.hours) for lease in hub_env.live()] == [(("GPU-0",), 1.5)]


async def test_an_uploaded_file_is_no_option(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        page = await browser.get("/hub/spawn/alice")
        answer = await browser.post(
            f"/hub/spawn/alice?_xsrf={xsrf_of(page.text)}", files={"x": b"y"}, data={"gpus": "1"}
        )
    assert answer.status_code == 400
    assert "x_file" in answer.text
    assert hub_env.leftovers("alice") == {}


@pytest.mark.parametrize("query", ["opt-gpus=1", "gpus=1", "opt-gpus=1&opt-release=v2.7"])
async def test_a_link_starts_nothing(hub_env: HubEnvironment, query: str) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        answer = await browser.get(f"/hub/spawn/alice?{query}")
    assert answer.status_code == 400
    assert "A link cannot start a server" in answer.text
    assert "spawn_form" in answer.text
    assert hub_env.leftovers("alice") == {}


async def test_a_form_of_another_site_starts_nothing(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        answer = await browser.post(
            "/hub/spawn/alice", data={"gpus": "1"}, headers={"Sec-Fetch-Site": "cross-site"}
        )
    assert answer.status_code == 403
    assert hub_env.leftovers("alice") == {}


async def test_no_one_starts_the_server_of_another(hub_env: HubEnvironment) -> None:
    hub_env.user("bob")
    async with hub_env.client("alice") as client:
        answer = await client.post("/hub/api/users/bob/server", json={"gpus": 1})
    assert answer.status_code == 404
    assert hub_env.live() == []


def assert_one_sentence(message: str) -> None:
    assert message.strip() == message != ""
    assert "\n" not in message
    assert "Traceback" not in message
    assert len(message) < 300


async def test_a_server_still_learns_from_the_hub_who_visits_it(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        assert await start(hub_env, "alice", {"gpus": 0}) == (201, "")
        asked = {
            "client_id": "jupyterhub-user-alice",
            "redirect_uri": "/user/alice/oauth_callback",
            "response_type": "code",
        }
        answer = await browser.get("/hub/api/oauth2/authorize", params=asked)
    assert answer.status_code == 302, answer.text
    assert answer.headers["Location"].startswith("/user/alice/oauth_callback?code=")
