"""Quarantine: a GPU fails in use, its user sees why, the next user gets another, an admin releases it."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from spawner.model import Cause, GpuHealth, LeaseState
from spawner.settings import Settings
from testing.eventually import eventually
from tests.hub.accounts import admin, join
from tests.hub.hub_env import HubEnvironment, xsrf_of
from tests.hub.pages import one, parse, words
from tests.hub.people import make_service
from tests.hub.servers import extend, lease_of, read_lease, start, stop, wait_in_queue

XID = {"xid": 79, "xid_at": 5.0}
ADVICE = "save your work, stop the server and start it again."
TROUBLE = f"GPU 0 of this server failed (Xid 79): {ADVICE}"


async def lose(hub_env: HubEnvironment, name: str, **changes: Any) -> None:
    """Let GPU 0, which ``name`` has, fail."""
    hub_env.agent.set(0, **(changes or XID))
    await eventually(lambda: lease_of(hub_env, name).state is LeaseState.LOST, "it is noticed")


async def read_gpus(
    hub_env: HubEnvironment, name: str, *, is_admin: bool = False
) -> list[dict[str, Any]]:
    async with hub_env.client(name, is_admin=is_admin) as client:
        answer = await client.get("/hub/api/workbench/gpus")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["devices"]
    return found


async def give_back(hub_env: HubEnvironment, uuid: str, name: str = "root") -> tuple[int, str]:
    async with hub_env.client(name, is_admin=name == "root") as client:
        answer = await client.post(f"/hub/api/workbench/gpus/{uuid}/release")
    return answer.status_code, answer.json()["message"] if answer.content else ""


def tile(page: httpx.Response, uuid: str) -> str:
    return words(one(parse(page.text), f"[data-uuid='{uuid}']"))


# --- whose GPU failed


@pytest.mark.parametrize(
    ("changes", "what"),
    [(XID, "failed (Xid 79)"), ({"health": GpuHealth.LOST}, "was lost by its driver")],
)
async def test_its_user_sees_it_and_may_work_on(
    hub_env: HubEnvironment, changes: dict[str, Any], what: str
) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        await start(hub_env, "alice", {"gpus": 1})
        assert (await read_lease(hub_env, "alice"))["trouble"] is None
        assert "wb-trouble" not in (await browser.get("/hub/home")).text
        await lose(hub_env, "alice", **changes)
        lease = await read_lease(hub_env, "alice")
        page = parse((await browser.get("/hub/home")).text)
    told = f"GPU 0 of this server {what}: {ADVICE}"
    assert (lease["state"], lease["gpus"], lease["trouble"]) == ("lost", 1, told)
    assert lease["seconds_left"] > 0
    assert one(page, "#wb-trouble").text == told
    assert page.select_one("#wb-extend") is None
    spawner = hub_env.user("alice").spawner
    await spawner.poll_and_notify()
    assert spawner.ready
    assert hub_env.container(lease_of(hub_env, "alice")).is_running


async def test_the_servers_own_token_reads_it(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    await lose(hub_env, "alice")
    environment = dict(
        pair.split("=", 1) for pair in hub_env.container(lease_of(hub_env, "alice")).body["Env"]
    )
    headers = {"Authorization": f"token {environment['JUPYTERHUB_API_TOKEN']}"}
    async with hub_env.browser() as client:
        answer = await client.get("/hub/api/workbench/server/lease", headers=headers)
        others = await client.get("/hub/api/workbench/gpus", headers=headers)
    assert answer.json()["trouble"] == TROUBLE
    assert others.status_code == 403


async def test_it_cannot_be_extended(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1, "hours": 2})
    await lose(hub_env, "alice")
    status, answer = await extend(hub_env, "alice", {"hours": 1})
    assert (status, answer["message"]) == (
        409,
        f"A GPU of this server failed, so its time cannot be extended: {ADVICE}",
    )


async def test_after_its_stop_both_get_a_gpu_that_works(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    await lose(hub_env, "alice")
    assert await stop(hub_env, "alice") == 204
    assert (await start(hub_env, "alice", {"gpus": 1}))[0] == 201
    assert lease_of(hub_env, "alice").gpu_uuids == ("GPU-1",)
    hub_env.be_brisk()
    await wait_in_queue(hub_env, "bob")
    assert (await give_back(hub_env, "GPU-0"))[0] == 204
    await eventually(lambda: hub_env.user("bob").spawner.ready, "bob's turn")
    assert lease_of(hub_env, "bob").gpu_uuids == ("GPU-0",)


async def test_it_stays_lost_and_alone_over_a_restart(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    await lose(hub_env, "alice")
    before = lease_of(hub_env, "alice")
    await hub_env.close_hub()
    await hub_env.open_hub()
    await eventually(lambda: hub_env.controller.is_ready, "the hub is ready")
    await hub_env.user("alice").spawner.poll_and_notify()
    assert lease_of(hub_env, "alice") == before
    assert hub_env.user("alice").spawner.ready
    assert hub_env.container(before).is_running
    assert (await read_lease(hub_env, "alice"))["trouble"] == TROUBLE
    assert await stop(hub_env, "alice") == 204
    assert hub_env.leftovers("alice") == {}


async def test_a_gpu_that_fails_while_a_server_starts_is_its_reason(
    hub_env: HubEnvironment,
) -> None:
    hub_env.servers.is_mute = True
    hub_env.be_brisk()
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        assert (await start(hub_env, "alice", {"gpus": 1}))[0] == 202
        await eventually(lambda: hub_env.engine.containers, "its container is there")
        hub_env.agent.set(0, **XID)
        await eventually(lambda: not hub_env.live(), "it was given up")
        page = await browser.get("/hub/spawn-pending/alice")
    said = one(parse(page.text), "[role=alert]").text
    assert said == (
        "GPU 0 failed (Xid 79) while your server was starting: start it again to get another GPU."
    )
    assert hub_env.last_lease().cause is Cause.FAILED
    assert hub_env.leftovers("alice") == {}
    hub_env.servers.is_mute = False
    await start(hub_env, "alice", {"gpus": 1})
    await eventually(lambda: hub_env.user("alice").spawner.ready, "it starts")
    assert lease_of(hub_env, "alice").gpu_uuids == ("GPU-1",)


async def test_a_gpu_that_fails_just_before_the_answer_is_its_reason(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirm = hub_env.controller.confirm

    async def fail_first(lease_id: str) -> None:
        await lose(hub_env, "alice")
        await confirm(lease_id)

    monkeypatch.setattr(hub_env.controller, "confirm", fail_first)
    status, message = await start(hub_env, "alice", {"gpus": 1})
    assert status == 500
    assert message.startswith("GPU 0 failed (Xid 79) while your server was starting")
    assert hub_env.leftovers("alice") == {}


# --- the admin


async def test_everyone_sees_how_the_gpus_are(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    await lose(hub_env, "alice")
    first, second = await read_gpus(hub_env, "bob")
    quarantine = first.pop("quarantine")
    assert first.pop("last_quarantine") == quarantine
    assert first == {
        "uuid": "GPU-0",
        "index": 0,
        "name": "NVIDIA A100-SXM4-80GB (simulated)",
        "mig_profile": None,
        "health": "ok",
        "holder": "alice",
        "drain": None,
    }
    assert quarantine.pop("since")
    assert quarantine == {"reason": "failed (Xid 79)", "returned_at": None, "returned_by": None}
    assert (second["holder"], second["quarantine"]) == (None, None)


async def test_an_admin_returns_it_and_that_is_kept(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    await lose(hub_env, "alice")
    assert await give_back(hub_env, "GPU-0") == (204, "")
    first, _ = await read_gpus(hub_env, "root", is_admin=True)
    assert first["quarantine"] is None
    last = first["last_quarantine"]
    assert last["returned_by"] == "you"
    assert datetime.fromisoformat(last["returned_at"]) >= datetime.fromisoformat(last["since"])
    await hub_env.controller.health.check()
    assert hub_env.ledger.quarantines() == ()
    assert await give_back(hub_env, "GPU-0") == (
        404,
        "GPU 0 is not in quarantine: there is nothing to release.",
    )


async def test_what_cannot_be_returned(hub_env: HubEnvironment) -> None:
    hub_env.agent.set(0, health=GpuHealth.LOST)
    await eventually(hub_env.ledger.quarantines, "it is noticed")
    assert await give_back(hub_env, "GPU-0") == (
        409,
        "GPU 0 still fails: it was lost by its driver. Repair it first.",
    )
    assert (await give_back(hub_env, "GPU-9"))[0] == 404
    hub_env.agent.is_silent = True
    status, message = await give_back(hub_env, "GPU-0")
    assert (status, message) == (
        503,
        "The gpu-agent does not answer; try again in a moment.",
    )
    (known,) = await read_gpus(hub_env, "bob")
    assert (known["uuid"], known["index"], known["health"]) == ("GPU-0", None, "unknown")


async def test_only_an_admin_or_who_was_given_the_scope_returns(hub_env: HubEnvironment) -> None:
    hub_env.agent.set(0, **XID)
    await eventually(hub_env.ledger.quarantines, "it is noticed")
    status, message = await give_back(hub_env, "GPU-0", "alice")
    assert (status, message) == (403, "This needs the scope custom:workbench:gpus.")
    root = hub_env.user("root", is_admin=True)
    token = root.new_api_token(scopes=["custom:workbench:read:gpus"])
    async with hub_env.browser() as client:
        headers = {"Authorization": f"token {token}"}
        narrow = await client.post("/hub/api/workbench/gpus/GPU-0/release", headers=headers)
        nobody = await client.get("/hub/api/workbench/gpus")
        stranger = await client.post("/hub/api/workbench/gpus/GPU-0/release")
    assert [answer.status_code for answer in (narrow, nobody, stranger)] == [403] * 3
    assert hub_env.ledger.quarantines()
    async with make_service(hub_env, "keeper", "custom:workbench:gpus") as keeper:
        answer = await keeper.post("/hub/api/workbench/gpus/GPU-0/release")
    assert answer.status_code == 204
    assert hub_env.ledger.trail(limit=1)[0].entry.actor == "service keeper"


async def test_the_page_shows_it_and_its_button_returns_it(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    async with admin(hub_env) as browser:
        home = parse((await browser.get("/hub/home")).text)
        assert "GPUs" in [a.text for a in home.select('.navbar a[href="/hub/gpus"]')]
        await lose(hub_env, "alice")
        page = await browser.get("/hub/gpus")
        assert "Quarantined" in tile(page, "GPU-0")
        url = "/hub/api/workbench/gpus/GPU-0/release"
        assert (await browser.post(url)).status_code == 403, "no link can do it"
        done = await browser.post(f"{url}?_xsrf={xsrf_of(page.text)}")
        assert done.status_code == 204
        await asyncio.sleep(1)  # a shared answer is at most so old
        assert "In use" in tile(await browser.get("/hub/gpus"), "GPU-0")


class TestWithoutNames:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(ledger_url=f"sqlite:///{tmp_path}/ledger.sqlite", show_queue_names=False)

    async def test_nobody_but_admins_sees_the_holders_name(self, hub_env: HubEnvironment) -> None:
        await start(hub_env, "alice", {"gpus": 1})
        seen = [
            (await read_gpus(hub_env, name, is_admin=name == "root"))[0]["holder"]
            for name in ("bob", "alice", "root")
        ]
        assert seen == ["another user", "you", "alice"]
