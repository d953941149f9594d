"""The time of a lease: counted down, extended, over; and a grant that its user does not claim."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spawner.hub.servers.presence import SETTLE_SECONDS
from spawner.model import Cause, Lease, LeaseState
from testing.eventually import eventually
from testing.fakes.docker_faults import Fault
from testing.paths import CONTRACT
from tests.hub.accounts import join
from tests.hub.hub_env import HubEnvironment, xsrf_of
from tests.hub.pages import one, parse, words
from tests.hub.servers import extend, lease_of, read_lease, start, stop, wait_in_queue

HOUR = 3600.0


async def test_a_lease_has_an_end(hub_env: HubEnvironment) -> None:
    assert (await read_lease(hub_env, "alice"))["state"] is None
    await start(hub_env, "alice", {"gpus": 1, "hours": 3})
    lease = await read_lease(hub_env, "alice")
    assert (lease["state"], lease["gpus"], lease["max_lease_hours"]) == ("running", 1, 24.0)
    assert 2.9 * HOUR < lease["seconds_left"] <= 3 * HOUR
    ends_at = datetime.fromisoformat(lease["ends_at"])
    assert abs(ends_at - datetime.now(UTC) - timedelta(hours=3)) < timedelta(minutes=1)
    golden = json.loads((CONTRACT / "panel-lease.json").read_text())
    assert lease.keys() == golden.keys(), "the panel's server reads these"


async def test_a_server_without_gpus_has_no_end(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 0})
    lease = await read_lease(hub_env, "alice")
    assert (lease["ends_at"], lease["seconds_left"]) == (None, None)


async def test_home_counts_down_and_offers_to_extend(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        await start(hub_env, "alice", {"gpus": 1, "hours": 5})
        hub_env.skip(0.5 * HOUR)
        page = parse((await browser.get("/hub/home")).text)
        said = words(one(page, "#wb-lease"))
        assert said.startswith("Yours until ")
        assert said.endswith(": 4 h 29 min left.")
        assert page.select_one("#wb-extend")
        token = xsrf_of(str(page))
        without = await browser.post("/hub/api/workbench/server/lease", json={"hours": 1})
        assert without.status_code == 403
        done = await browser.post(
            f"/hub/api/workbench/server/lease?_xsrf={token}", json={"hours": 1}
        )
    assert done.status_code == 200, done.text
    assert done.json()["seconds_left"] > 5 * HOUR


async def test_extending_moves_the_end(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1, "hours": 3})
    before = (await read_lease(hub_env, "alice"))["seconds_left"]
    status, lease = await extend(hub_env, "alice", {"hours": 2.5})
    assert status == 200
    assert lease["seconds_left"] == pytest.approx(before + 2.5 * HOUR, abs=60)


@pytest.mark.parametrize(
    "body",
    [{}, None, {"hours": "1"}, {"hours": True}, {"hours": 0}, {"hours": -1}, {"hours": 1e9}],
)
async def test_a_bad_extension_is_one_sentence(hub_env: HubEnvironment, body: object) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    status, answer = await extend(hub_env, "alice", body)
    assert status == 400
    assert answer["message"].startswith("Give the hours to add")


async def test_an_extension_is_refused_beyond_the_quota_for_others_and_without_a_lease(
    hub_env: HubEnvironment,
) -> None:
    status, answer = await extend(hub_env, "alice", {"hours": 1})
    assert (status, "nothing to extend" in answer["message"]) == (409, True)
    await start(hub_env, "alice", {"gpus": 2, "hours": 2})
    status, answer = await extend(hub_env, "alice", {"hours": 23})
    assert (status, "24 hours" in answer["message"]) == (409, True)
    hub_env.be_brisk()
    await wait_in_queue(hub_env, "bob")
    status, answer = await extend(hub_env, "alice", {"hours": 1})
    assert (status, "Others wait" in answer["message"]) == (409, True)


async def test_a_servers_token_may_mind_its_own_lease_and_nothing_more(
    hub_env: HubEnvironment,
) -> None:
    await start(hub_env, "alice", {"gpus": 1, "hours": 3})
    (lease,) = hub_env.live()
    environment = dict(pair.split("=", 1) for pair in hub_env.container(lease).body["Env"])
    headers = {"Authorization": f"token {environment['JUPYTERHUB_API_TOKEN']}"}
    async with hub_env.browser() as client:
        own = await client.get("/hub/api/workbench/server/lease", headers=headers)
        other = await client.get("/hub/api/workbench/servers/second/lease", headers=headers)
        longer = await client.post(
            "/hub/api/workbench/server/lease", headers=headers, json={"hours": 1}
        )
        too_long = await client.post(
            "/hub/api/workbench/server/lease", headers=headers, json={"hours": 24}
        )
        others = await client.post(
            "/hub/api/workbench/servers/second/lease", headers=headers, json={"hours": 1}
        )
        whole = await client.get("/hub/api/workbench/queue", headers=headers)
        nobody = await client.get("/hub/api/workbench/server/lease")
    assert own.json()["gpus"] == 1
    assert longer.json()["seconds_left"] == pytest.approx(own.json()["seconds_left"] + HOUR, abs=60)
    assert too_long.status_code == 409
    assert [other.status_code, others.status_code, whole.status_code] == [403] * 3
    assert nobody.status_code == 403


async def test_a_service_has_no_lease(hub_env: HubEnvironment) -> None:
    headers = {"Authorization": f"token {hub_env.workbench.service_token}"}
    async with hub_env.browser() as client:
        answer = await client.get("/hub/api/workbench/server/lease", headers=headers)
    assert answer.status_code == 403


async def test_when_its_time_is_over_a_server_is_stopped_and_its_user_sees_why(
    hub_env: HubEnvironment,
) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        await start(hub_env, "alice", {"gpus": 2, "hours": 1})
        hub_env.be_brisk()
        await wait_in_queue(hub_env, "bob")
        lease = lease_of(hub_env, "alice")
        hub_env.skip(HOUR)
        await eventually(lambda: not hub_env.user("alice").spawner.active, "alice's server is gone")
        assert "/user/alice/" not in hub_env.hub.proxy.routes
        assert_ended(hub_env, lease, Cause.EXPIRED)
        assert hub_env.leftovers("alice") == {}
        await eventually(lambda: hub_env.user("bob").spawner.ready, "bob's turn")
        for path in ("/hub/home", "/hub/user/alice/lab"):
            page = parse((await browser.get(path)).text)
            said = words(one(page, ".alert"))
            assert said.startswith("Your lease ended at ")
            assert said.endswith(": its time was over.")
    ended = (await read_lease(hub_env, "alice"))["last_end"]
    assert ended["cause"] == "expired"


async def test_a_server_that_its_user_stopped_needs_no_words(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    await stop(hub_env, "alice")
    assert (await read_lease(hub_env, "alice"))["last_end"] is None


def assert_ended(hub_env: HubEnvironment, lease: Lease, cause: Cause) -> None:
    closed = hub_env.ledger.lease(lease.id)
    assert closed is not None
    assert (closed.state, closed.cause) == (LeaseState.CLOSED, cause)


async def grant_after_a_wait(hub_env: HubEnvironment) -> Lease:
    """Let bob's turn come after two hours in line; his server runs."""
    await start(hub_env, "alice", {"gpus": 2, "hours": 2})
    hub_env.be_brisk()
    await wait_in_queue(hub_env, "bob")
    hub_env.skip(2 * HOUR)
    await eventually(lambda: hub_env.user("bob").spawner.ready, "bob's turn")
    lease = lease_of(hub_env, "bob")
    assert not lease.is_claimed
    return lease


async def test_a_turn_that_no_one_comes_for_goes_to_the_next(hub_env: HubEnvironment) -> None:
    lease = await grant_after_a_wait(hub_env)
    hub_env.skip(20 * 60)
    await eventually(lambda: not hub_env.user("bob").spawner.active, "bob's server is released")
    assert_ended(hub_env, lease, Cause.UNCLAIMED)
    assert (await read_lease(hub_env, "bob"))["last_end"]["cause"] == "unclaimed"


async def visit_in_a_browser(hub_env: HubEnvironment) -> None:
    user = hub_env.user("bob")
    user.new_api_token(client_id=user.spawner.oauth_client_id, note="as the log-in leaves it")


async def use_with_a_token(hub_env: HubEnvironment) -> None:
    later = datetime.now(UTC) + timedelta(seconds=SETTLE_SECONDS + 1)
    body = {"servers": {"": {"last_activity": later.isoformat()}}}
    async with hub_env.client("bob") as client:
        answer = await client.post("/hub/api/users/bob/activity", json=body)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("come", [visit_in_a_browser, use_with_a_token])
async def test_who_comes_in_time_keeps_the_server(hub_env: HubEnvironment, come: Any) -> None:
    await grant_after_a_wait(hub_env)
    spawner = hub_env.user("bob").spawner
    assert not spawner.has_been_opened(), "its own start is nobody's visit"
    hub_env.skip(20 * 60 - 1)
    await come(hub_env)  # in the last second, and Docker does not answer
    hub_env.engine.plan("list", *[Fault.ERROR] * 500)
    hub_env.skip(60)
    await eventually(lambda: lease_of(hub_env, "bob").is_claimed, "he was seen")
    assert lease_of(hub_env, "bob").state is LeaseState.RUNNING
    assert spawner.ready


async def test_who_comes_in_time_keeps_the_server_over_a_restart(hub_env: HubEnvironment) -> None:
    await grant_after_a_wait(hub_env)
    await hub_env.close_hub()
    await hub_env.open_hub()
    await eventually(lambda: hub_env.controller.is_ready, "the hub is reconciled")
    await visit_in_a_browser(hub_env)
    hub_env.skip(21 * 60)
    await eventually(lambda: lease_of(hub_env, "bob").is_claimed, "he was seen")
    assert hub_env.user("bob").spawner.ready
