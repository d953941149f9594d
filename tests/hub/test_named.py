"""Named servers: several of one user, side by side over one home, and nothing of them left when they go."""

import asyncio
from functools import partial
from typing import Any

import httpx
import pytest

from spawner.model import Cause, Lease, LeaseState
from spawner.policy.container import HOME
from spawner.settings import Settings
from testing.eventually import eventually
from testing.fakes.docker_faults import Fault
from tests.hub.accounts import join
from tests.hub.hub_env import HubEnvironment, xsrf_of
from tests.hub.pages import one, parse, words
from tests.hub.servers import queued_users

API = "/hub/api/users/alice/servers"
LONG = 3600


@pytest.fixture
def patient(hub_env: HubEnvironment) -> HubEnvironment:
    """A hub that calls a spawn slow after an hour: a queued user must get an answer before."""
    hub_env.hub.tornado_application.settings["slow_spawn_timeout"] = LONG
    return hub_env


def servers(hub_env: HubEnvironment) -> dict[str, Lease]:
    return {lease.server: lease for lease in hub_env.live() if lease.user == "alice"}


def remains(hub_env: HubEnvironment, server: str) -> dict[str, Any]:
    """Return what is left of a server of alice: row, lease, container, token, route."""
    user = hub_env.user("alice")
    hub_env.hub.db.expire_all()
    found = {
        "row": user.orm_user.orm_spawners.get(server),
        "active": server in user.spawners and user.spawners[server].active,
        "lease": servers(hub_env).get(server),
        "containers": [
            name for name in hub_env.engine.containers if f"-alice-{server[:8]}-" in name
        ],
        "tokens": [t.note for t in user.orm_user.api_tokens if t.note.endswith(f"/{server}/")],
        "route": f"/user/alice/{server}/" in hub_env.hub.proxy.routes,
    }
    return {key: value for key, value in found.items() if value}


async def test_one_computes_without_a_gpu_while_another_waits(patient: HubEnvironment) -> None:
    async with patient.client("bob") as bob, patient.client("alice") as alice:
        assert (await bob.post("/hub/api/users/bob/server", json={"gpus": 2})).status_code == 201
        waits = await alice.post("/hub/api/users/alice/server", json={"gpus": 1})
        runs = await alice.post(f"{API}/cpu", json={"gpus": 0})
        again = await alice.post(f"{API}/more", json={"gpus": 1})
    assert (waits.status_code, runs.status_code, again.status_code) == (202, 201, 202)
    states = {name: lease.state for name, lease in servers(patient).items()}
    assert states == {
        "": LeaseState.WAITING,
        "cpu": LeaseState.RUNNING,
        "more": LeaseState.WAITING,
    }
    assert queued_users(patient) == ["alice", "alice"]
    assert "/user/alice/cpu/" in patient.hub.proxy.routes


async def test_all_servers_of_a_user_share_one_home(hub_env: HubEnvironment) -> None:
    async with hub_env.client("alice") as client:
        for path in ("/hub/api/users/alice/server", f"{API}/second"):
            assert (await client.post(path, json={"gpus": 0})).status_code == 201
    mounts = [hub_env.container(lease).body["HostConfig"]["Mounts"] for lease in hub_env.live()]
    assert len(mounts) == 2
    assert mounts[0] == mounts[1]
    assert mounts[0][0]["Target"] == HOME


BAD_NAMES = [
    "%2F", "a%2Fb", "%2e%2e", "%00", "%0a", "a%0a", "Big", "1st", "-a", "a-", "a--b", "a_b", "a.b", "a%20b",
    "%C3%A9", "%F0%9F%90%8D", "%25", "%ff", "a" * 31, "a" * 3000, "%E2%80%AE", "__proto__", "%3Cb%3E",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_a_name_that_cannot_be_an_address_is_one_sentence_and_makes_nothing(
    hub_env: HubEnvironment, name: str
) -> None:
    answers: list[httpx.Response] = []
    async with hub_env.client("alice") as client:
        for method in ("POST", "PUT", "PATCH", "DELETE", "GET"):
            body = {"gpus": 0} if method != "DELETE" else {"remove": True}
            answers.append(await client.request(method, f"{API}/{name}", json=body))
    for answer in answers:
        assert answer.status_code == 400, (answer.request.method, answer.text)
        message = answer.json()["message"]
        assert "cannot be the name of a server" in message or "Invalid unicode" in message
        assert len(message) < 300
        assert "\n" not in message
    assert list(hub_env.user("alice").orm_user.orm_spawners) == [""]
    assert hub_env.live() == []


@pytest.mark.parametrize(
    ("title", "is_fine"),
    [
        ("Größe und 训练 🐍", True),
        ("x" * 255, True),
        ("<script>alert(1)</script>", True),
        ("x" * 256, False),
        ("", True),
        (" led", False),
        ("two  spaces", False),
        ("a\nb", False),
        ("a\u202eb", False),
        ("nul\0", False),
    ],
)
async def test_what_it_is_for_may_be_any_text_that_can_be_shown(
    hub_env: HubEnvironment, title: str, is_fine: bool
) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        token = xsrf_of((await browser.get("/hub/home")).text)
        made = await browser.put(f"{API}/one?_xsrf={token}", json={"display_name": title})
        page = parse((await browser.get("/hub/home")).text)
    assert made.status_code == (201 if is_fine else 400), made.text
    headings = [heading.text for heading in page.select("#wb-servers h2")]
    assert headings == ["Default server", *([title or "one"] if is_fine else [])]


async def test_there_are_as_many_as_configured(hub_env: HubEnvironment) -> None:
    async with hub_env.client("alice") as client:
        asked = [client.put(f"{API}/s{i}") for i in range(8)]
        answers = await asyncio.gather(*asked)
        more = await client.post(f"{API}/another", json={"gpus": 0})
    assert sorted(answer.status_code for answer in answers) == [201] * 4 + [400] * 4
    assert (
        more.json()["message"] == "alice has 4 named servers, which is the limit: delete one first."
    )
    assert len(hub_env.user("alice").orm_user.orm_spawners) == 5


class TestWithoutNamedServers:
    """A workbench that gives each user one server."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return Settings(ledger_url=settings.ledger_url, start_timeout_seconds=10, named_servers=0)

    async def test_none_can_be_made_and_the_page_offers_none(self, hub_env: HubEnvironment) -> None:
        async with hub_env.browser() as browser:
            await join(hub_env, browser, "alice")
            home = await browser.get("/hub/home")
            put = await browser.put(f"{API}/one?_xsrf={xsrf_of(home.text)}")
            page = parse(home.text)
        assert put.status_code == 400
        assert "gives one server" in put.json()["message"]
        assert page.select_one("#wb-add") is None
        assert len(page.select(".wb-server")) == 1


async def test_following_a_link_makes_no_server(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        got = await browser.get("/hub/spawn/alice/bait?display_name=bait")
        token = xsrf_of((await browser.get("/hub/spawn/alice")).text)
        posted = await browser.post(f"/hub/spawn/alice/bait?_xsrf={token}", data={"gpus": "0"})
    assert (got.status_code, posted.status_code) == (404, 404)
    assert "add it on the home page" in got.text
    assert remains(hub_env, "bait") == {}


async def test_one_that_was_added_is_started_by_its_form(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        token = xsrf_of((await browser.get("/hub/home")).text)
        await browser.put(f"{API}/one?_xsrf={token}", json={"display_name": "Eins"})
        page = await browser.get("/hub/spawn/alice/one")
        started = await browser.post(
            f"/hub/spawn/alice/one?_xsrf={xsrf_of(page.text)}", data={"gpus": "1"}
        )
        await eventually(lambda: "one" in hub_env.user("alice").spawners, "it is there")
        await eventually(lambda: hub_env.user("alice").spawners["one"].ready, "it runs")
        home = parse((await browser.get("/hub/home")).text)
    assert started.status_code == 302
    assert servers(hub_env)["one"].gpu_uuids == ("GPU-0",)
    card = one(home, "[data-server=one]")
    assert card is not None
    assert one(card, "h2").text == "Eins"
    assert "Yours until" in card.text
    assert one(card, "#start-one")["href"] == "/user/alice/one/"


async def test_a_form_whose_server_waits_leads_to_its_place_at_once(
    patient: HubEnvironment,
) -> None:
    async with patient.client("bob") as bob, patient.browser() as browser:
        await bob.post("/hub/api/users/bob/server", json={"gpus": 2})
        await join(patient, browser, "alice")
        page = await browser.get("/hub/spawn/alice")
        waits = await browser.post(
            f"/hub/spawn/alice?_xsrf={xsrf_of(page.text)}", data={"gpus": "1"}
        )
        home = parse((await browser.get("/hub/home")).text)
    assert waits.status_code == 302
    assert waits.headers["Location"].startswith("/hub/spawn-pending/alice")
    said = words(one(home, "[data-server='']"))
    assert "position 1 of 1, about" in said
    assert "Leave the queue" in said


async def test_a_refused_start_of_a_new_server_leaves_no_row_and_of_an_old_one_its_row(
    hub_env: HubEnvironment,
) -> None:
    async with hub_env.client("alice") as client:
        bad = await client.post(f"{API}/new", json={"gpus": -1})
        too_many = await client.post(f"{API}/new", json={"gpus": 3})
        assert remains(hub_env, "new") == {}
        hub_env.engine.plan("create", Fault.ERROR)
        failed = await client.post(f"{API}/new", json={"gpus": 0})
        assert remains(hub_env, "new") == {}
        await client.put(f"{API}/old", json={"user_options": {"gpus": 1}})
        refused = await client.post(f"{API}/old", json={"gpus": 3})
    statuses = [answer.status_code for answer in (bad, too_many, failed, refused)]
    assert statuses == [400, 400, 503, 400]
    assert list(remains(hub_env, "old")) == ["row"]


async def _stopped(hub_env: HubEnvironment, client: httpx.AsyncClient) -> None:
    await client.put(f"{API}/one")


async def _running(hub_env: HubEnvironment, client: httpx.AsyncClient) -> None:
    assert (await client.post(f"{API}/one", json={"gpus": 1})).status_code == 201


async def _waiting(hub_env: HubEnvironment, client: httpx.AsyncClient) -> None:
    async with hub_env.client("bob") as bob:
        assert (await bob.post("/hub/api/users/bob/server", json={"gpus": 2})).status_code == 201
    assert (await client.post(f"{API}/one", json={"gpus": 1})).status_code == 202


async def _starting(hub_env: HubEnvironment, client: httpx.AsyncClient) -> None:
    hub_env.servers.is_mute = True
    hub_env.be_brisk()
    assert (await client.post(f"{API}/one", json={"gpus": 1})).status_code == 202


@pytest.mark.parametrize("bring_about", [_stopped, _running, _waiting, _starting])
async def test_a_deleted_server_is_gone_whatever_it_was_doing(
    hub_env: HubEnvironment, bring_about: Any
) -> None:
    async with hub_env.client("alice") as client:
        await bring_about(hub_env, client)
        answer = await client.request("DELETE", f"{API}/one", json={"remove": True})
        assert answer.status_code in (202, 204), answer.text
        await eventually(lambda: remains(hub_env, "one") == {}, "nothing is left of it")
        again = await client.request("DELETE", f"{API}/one", json={"remove": True})
        await client.put(f"{API}/one")
    assert again.status_code == 404
    assert list(remains(hub_env, "one")) == ["row"]
    assert not [lease for lease in hub_env.live() if lease.user == "alice"]


async def test_deleting_twice_at_once_is_deleting_once(hub_env: HubEnvironment) -> None:
    async with hub_env.client("alice") as client:
        await _running(hub_env, client)
        asked = [client.request("DELETE", f"{API}/one", json={"remove": True}) for _ in range(5)]
        answers = await asyncio.gather(*asked)
        await eventually(lambda: remains(hub_env, "one") == {}, "nothing is left of it")
    assert {answer.status_code for answer in answers} <= {202, 204, 404, 409}


async def test_the_default_server_cannot_be_deleted(hub_env: HubEnvironment) -> None:
    async with hub_env.client("alice") as client:
        answer = await client.request(
            "DELETE", "/hub/api/users/alice/server", json={"remove": True}
        )
    assert answer.status_code == 400


async def test_after_a_restart_named_servers_wait_and_run_as_before(
    patient: HubEnvironment,
) -> None:
    async with patient.client("bob") as bob, patient.client("alice") as alice:
        await bob.post("/hub/api/users/bob/server", json={"gpus": 1})
        await alice.post(f"{API}/runs", json={"gpus": 1})
        await alice.post(f"{API}/waits", json={"gpus": 2})
        await alice.post("/hub/api/users/alice/server", json={"gpus": 2})
    before = [entry.lease.id for entry in patient.controller.queue()]
    await patient.close_hub()
    await patient.open_hub()
    user = patient.user("alice")
    for name in ("waits", ""):
        await eventually(partial(patient.is_pending, "alice", name), f"{name!r} waits again")
    assert [entry.lease.id for entry in patient.controller.queue()] == before
    assert user.spawners["runs"].ready
    async with patient.client("bob") as bob, patient.client("alice") as alice:
        await alice.delete(f"{API}/runs")
        await bob.delete("/hub/api/users/bob/server")
    await eventually(lambda: user.spawners["waits"].ready, "its turn")
    assert servers(patient)["waits"].gpu_uuids == ("GPU-0", "GPU-1")


async def test_a_stopped_named_servers_lease_has_its_cause(hub_env: HubEnvironment) -> None:
    async with hub_env.client("alice") as client:
        await _running(hub_env, client)
        (lease,) = hub_env.live()
        assert (await client.delete(f"{API}/one")).status_code == 204
    closed = hub_env.ledger.lease(lease.id)
    assert closed is not None
    assert (closed.state, closed.cause) == (LeaseState.CLOSED, Cause.USER)
    assert list(remains(hub_env, "one")) == ["row"]
