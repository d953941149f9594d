"""The queue as page and API: holders, queued users, and which names a viewer sees."""

from pathlib import Path

import pytest

from spawner.settings import Settings
from tests.hub.accounts import join
from tests.hub.hub_env import HubEnvironment
from tests.hub.pages import one, parse
from tests.hub.servers import queued_users, read_queue, start, wait_in_queue


async def test_an_empty_line(hub_env: HubEnvironment) -> None:
    assert await read_queue(hub_env, "alice") == {
        "kinds": [{"mig_profile": None, "total": 2, "free": 2, "drained": 0}],
        "holders": [],
        "waiting": [],
    }
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        page = parse((await browser.get("/hub/queue")).text)
        home = parse((await browser.get("/hub/home")).text)
    assert "No GPU is in use." in page.text
    assert "2 of 2 GPUs free now" in page.text
    assert "The queue is empty: a free GPU is granted at once." in page.text
    assert "Queue" in [a.text for a in home.select('.navbar a[href="/hub/queue"]')]


async def test_everyone_sees_holders_and_waiters_in_order(hub_env: HubEnvironment) -> None:
    assert (await start(hub_env, "alice", {"gpus": 2, "hours": 2}))[0] == 201
    hub_env.be_brisk()
    await wait_in_queue(hub_env, "bob", "carol")
    assert queued_users(hub_env) == ["bob", "carol"]
    shown = await read_queue(hub_env, "bob")
    assert shown["kinds"] == [{"mig_profile": None, "total": 2, "free": 0, "drained": 0}]
    (holder,) = shown["holders"]
    assert (holder["user"], holder["gpus"], holder["is_closing"]) == ("alice", 2, False)
    waiting = [
        (one["position"], one["user"], one["gpus"], one["hours"]) for one in shown["waiting"]
    ]
    assert waiting == [(1, "you", 1, 1.0), (2, "carol", 1, 1.0)]
    assert [one["starts_at"] for one in shown["waiting"]] == [holder["ends_at"]] * 2
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "dan")
        page = parse((await browser.get("/hub/queue")).text)
    rows = [" ".join(row.text.split()) for row in page.select("#wb-waiters > li")]
    about = one(page, "#wb-waiters time").text
    assert rows == [
        f"1 bob · 1 GPU for 1 hour about {about}",
        f"2 carol · 1 GPU for 1 hour about {about}",
    ]
    assert one(page, "#wb-holders time")["datetime"] == holder["ends_at"]


async def test_a_silent_agent_leaves_counts_unknown(hub_env: HubEnvironment) -> None:
    hub_env.agent.is_silent = True
    assert (await read_queue(hub_env, "alice"))["kinds"] is None
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        assert "The gpu-agent does not answer." in (await browser.get("/hub/queue")).text


async def test_the_line_is_for_those_who_are_logged_in(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        assert (await browser.get("/hub/queue")).status_code == 302
        assert (await browser.get("/hub/api/workbench/queue")).status_code == 403
    token = hub_env.user("alice").new_api_token(scopes=["read:users:name!user"])
    async with hub_env.browser() as client:
        answer = await client.get(
            "/hub/api/workbench/queue", headers={"Authorization": f"token {token}"}
        )
    assert answer.status_code == 403
    assert "custom:workbench:read:queue" in answer.json()["message"]


class TestWithoutNames:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(ledger_url=f"sqlite:///{tmp_path}/ledger.sqlite", show_queue_names=False)

    async def test_nobody_but_admins_sees_the_others_names(self, hub_env: HubEnvironment) -> None:
        assert (await start(hub_env, "alice", {"gpus": 2}))[0] == 201
        hub_env.be_brisk()
        await wait_in_queue(hub_env, "bob", "carol")
        shown = await read_queue(hub_env, "carol")
        names = [one["user"] for one in (*shown["holders"], *shown["waiting"])]
        assert names == ["another user", "another user", "you"]
        seen = await read_queue(hub_env, "root", is_admin=True)
        names = [one["user"] for one in (*seen["holders"], *seen["waiting"])]
        assert names == ["alice", "bob", "carol"]
        async with hub_env.browser() as browser:
            await join(hub_env, browser, "dan")
            for path in ("/hub/queue", "/hub/spawn/dan"):
                text = (await browser.get(path)).text
                assert "alice" not in text
                assert "bob" not in text
