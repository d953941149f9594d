"""The line as page and API: who holds, who waits, and whose names are told to whom."""

from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from spawner.settings import Settings
from tests.hub.hub_env import HubEnvironment
from tests.hub.test_sign_up import join
from tests.hub.test_spawn import start
from tests.hub.test_wait import line, wait_in_line


async def read_line(hub_env: HubEnvironment, name: str, *, is_admin: bool = False) -> dict[str, Any]:
    async with hub_env.client(name, is_admin=is_admin) as client:
        answer = await client.get("/hub/api/workbench/line")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_an_empty_line(hub_env: HubEnvironment) -> None:
    assert await read_line(hub_env, "alice") == {
        "gpus": [{"mig_profile": None, "total": 2, "free": 2, "drained": 0}],
        "holders": [],
        "waiting": [],
    }
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        page = BeautifulSoup((await browser.get("/hub/line")).text, "html.parser")
        home = BeautifulSoup((await browser.get("/hub/home")).text, "html.parser")
    assert "Nobody holds a GPU." in page.text
    assert "2 of 2 GPUs free now" in page.text
    assert "Nobody waits: what is free starts at once." in page.text
    assert "Line" in [a.text for a in home.select('.navbar a[href="/hub/line"]')]


async def test_everyone_sees_holders_and_waiters_in_order(hub_env: HubEnvironment) -> None:
    assert (await start(hub_env, "alice", {"gpus": 2, "hours": 2}))[0] == 201
    hub_env.be_brisk()
    await wait_in_line(hub_env, "bob", "carol")
    assert line(hub_env) == ["bob", "carol"]
    shown = await read_line(hub_env, "bob")
    assert shown["gpus"] == [{"mig_profile": None, "total": 2, "free": 0, "drained": 0}]
    (holder,) = shown["holders"]
    assert (holder["user"], holder["gpus"], holder["is_closing"]) == ("alice", 2, False)
    waiting = [
        (one["position"], one["user"], one["gpus"], one["hours"]) for one in shown["waiting"]
    ]
    assert waiting == [(1, "you", 1, 1.0), (2, "carol", 1, 1.0)]
    assert [one["starts_at"] for one in shown["waiting"]] == [holder["ends_at"]] * 2
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "dan")
        page = BeautifulSoup((await browser.get("/hub/line")).text, "html.parser")
    rows = [" ".join(row.text.split()) for row in page.select("#wb-waiters > li")]
    about = page.select_one("#wb-waiters time").text
    assert rows == [
        f"1 bob · 1 GPU for 1 hour about {about}",
        f"2 carol · 1 GPU for 1 hour about {about}",
    ]
    assert page.select_one("#wb-holders time")["datetime"] == holder["ends_at"]


async def test_a_silent_agent_leaves_counts_unknown(hub_env: HubEnvironment) -> None:
    hub_env.agent.is_silent = True
    assert (await read_line(hub_env, "alice"))["gpus"] is None
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        assert "The gpu-agent does not answer." in (await browser.get("/hub/line")).text


async def test_the_line_is_for_those_who_are_logged_in(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        assert (await browser.get("/hub/line")).status_code == 302
        assert (await browser.get("/hub/api/workbench/line")).status_code == 403
    token = hub_env.user("alice").new_api_token(scopes=["read:users:name!user"])
    async with hub_env.browser() as client:
        answer = await client.get(
            "/hub/api/workbench/line", headers={"Authorization": f"token {token}"}
        )
    assert answer.status_code == 403
    assert "custom:workbench:read:line" in answer.json()["message"]


class TestWithoutNames:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(ledger_url=f"sqlite:///{tmp_path}/ledger.sqlite", show_queue_names=False)

    async def test_nobody_but_admins_sees_the_others_names(self, hub_env: HubEnvironment) -> None:
        assert (await start(hub_env, "alice", {"gpus": 2}))[0] == 201
        hub_env.be_brisk()
        await wait_in_line(hub_env, "bob", "carol")
        shown = await read_line(hub_env, "carol")
        names = [one["user"] for one in (*shown["holders"], *shown["waiting"])]
        assert names == ["somebody", "somebody", "you"]
        seen = await read_line(hub_env, "root", is_admin=True)
        names = [one["user"] for one in (*seen["holders"], *seen["waiting"])]
        assert names == ["alice", "bob", "carol"]
        async with hub_env.browser() as browser:
            await join(hub_env, browser, "dan")
            for path in ("/hub/line", "/hub/spawn/dan"):
                text = (await browser.get(path)).text
                assert "alice" not in text
                assert "bob" not in text
