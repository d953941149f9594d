"""A server whose GPUs do nothing: warned, kept by a sign of life, ended, or gone on with without GPUs."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from spawner.model import Cause, Lease, LeaseState
from spawner.settings import Settings
from testing.eventually import eventually
from testing.fakes.docker_faults import Fault
from testing.paths import CONTRACT
from tests.hub.accounts import join
from tests.hub.hub_env import HubEnvironment
from tests.hub.pages import one, parse
from tests.hub.servers import read_lease, server_url, start

MINUTE = 60.0
IDLE = 30 * MINUTE
GOLDEN = json.loads((CONTRACT / "panel-activity.json").read_text())
REST = {**GOLDEN, "kernels_quiet_seconds": 1e6, "terminals_quiet_seconds": 1e6}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        ledger_url=f"sqlite:///{tmp_path}/ledger.sqlite",
        start_timeout_seconds=10,
        idle_minutes=30,
        idle_warning_minutes=10,
    )


@pytest.fixture(autouse=True)
def _seen(hub_env: HubEnvironment) -> None:
    hub_env.agent.rest(0)
    hub_env.agent.rest(1)


async def post_activity(
    client: httpx.AsyncClient, server: str = "", **words: Any
) -> dict[str, Any]:
    answer = await client.post(server_url(server, "activity"), json={**REST, **words})
    assert answer.status_code == 200, answer.text
    lease: dict[str, Any] = answer.json()
    return lease


async def rest(
    hub_env: HubEnvironment, seconds: float, server: str = "", **words: Any
) -> dict[str, Any]:
    """Let time pass in which the server says that it does nothing, but for ``words``, and the GPUs do nothing."""
    async with hub_env.client("alice") as client:
        for _ in range(int(seconds / 10)):
            hub_env.skip(10)
            lease = await post_activity(client, server, **words)
            await hub_env.workbench.gpu_sampler.sample()
    return lease


def ended(hub_env: HubEnvironment, server: str = "") -> Lease | None:
    lease = hub_env.ledger.last_ended("alice", server)
    return lease if lease is not None and lease.state is LeaseState.CLOSED else None


def goes_on(hub_env: HubEnvironment) -> bool:
    """Return whether the one server there is runs without GPUs."""
    states = [(lease.state, lease.gpu_count) for lease in hub_env.live()]
    return states == [(LeaseState.RUNNING, 0)] and hub_env.user("alice").spawner.ready


async def test_who_does_nothing_is_warned_then_stopped(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1, "hours": 9})
    assert (await rest(hub_env, IDLE - 11 * MINUTE))["idle_seconds_left"] is None
    warned = await rest(hub_env, 2 * MINUTE)
    assert 8.5 * MINUTE <= warned["idle_seconds_left"] <= 9.5 * MINUTE
    assert (await read_lease(hub_env, "alice"))["idle_seconds_left"] == pytest.approx(
        warned["idle_seconds_left"], abs=11
    )
    await rest(hub_env, 10 * MINUTE)
    lease = await eventually(lambda: ended(hub_env), "it was ended")
    assert lease.cause is Cause.IDLE
    await eventually(lambda: not hub_env.user("alice").spawner.active, "the hub knows")
    assert (await read_lease(hub_env, "alice"))["last_end"]["cause"] == "idle"
    assert hub_env.live() == []


async def test_a_word_of_its_user_keeps_it(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1, "hours": 9})
    await rest(hub_env, IDLE - 5 * MINUTE)
    async with hub_env.client("alice") as client:
        answer = await client.post("/hub/api/workbench/server/keep-alive")
        stranger = await client.post("/hub/api/workbench/servers/none/keep-alive")
    assert answer.json()["idle_seconds_left"] is None
    assert stranger.json()["state"] is None
    await rest(hub_env, 15 * MINUTE)
    assert [lease.state for lease in hub_env.live()] == [LeaseState.RUNNING]


@pytest.mark.parametrize("sign", ["kernel", "gpu", "unknown"])
async def test_a_training_and_what_no_one_knows_keep_it(hub_env: HubEnvironment, sign: str) -> None:
    await start(hub_env, "alice", {"gpus": 1, "hours": 20})
    words: dict[str, Any] = {}
    if sign == "kernel":
        words["busy_kernels"] = 1
    if sign == "gpu":
        hub_env.agent.rest(0, utilization_percent=1)
    if sign == "unknown":
        hub_env.agent.rest(0, utilization_percent=None)
    await rest(hub_env, 2 * IDLE, **words)
    assert [lease.state for lease in hub_env.live()] == [LeaseState.RUNNING]


async def test_a_restart_of_the_hub_is_no_idleness(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1, "hours": 20})
    await rest(hub_env, IDLE - 2 * MINUTE)
    await hub_env.close_hub()
    hub_env.skip(10 * IDLE / 30)
    await hub_env.open_hub()
    await eventually(lambda: hub_env.controller.is_ready, "the hub is back")
    lease = await rest(hub_env, 10 * MINUTE)
    assert (lease["state"], lease["idle_seconds_left"]) == ("running", None)


async def test_who_chose_so_goes_on_even_where_the_hub_dies_before_the_end_is_proved(
    hub_env: HubEnvironment,
) -> None:
    await start(hub_env, "alice", {"gpus": 1, "hours": 9, "when_idle": "go_on"})
    hub_env.engine.plan("delete", *[Fault.ERROR] * 1000)
    await rest(hub_env, IDLE + MINUTE)
    await eventually(lambda: hub_env.last_lease().state is LeaseState.CLOSING, "it is ended")
    await hub_env.close_hub()
    hub_env.engine.forget()
    await hub_env.open_hub()
    await eventually(lambda: goes_on(hub_env), "it goes on without GPUs")


async def test_who_chose_so_goes_on_without_gpus_and_requests_again_with_one_click(
    hub_env: HubEnvironment,
) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        await start(hub_env, "alice", {"gpus": 2, "hours": 9, "when_idle": "go_on"})
        volume = hub_env.container(hub_env.last_lease()).body["HostConfig"]["Mounts"]
        await rest(hub_env, IDLE - 5 * MINUTE)
        home = parse((await browser.get("/hub/home")).text)
        assert "given back in" in one(home, "#wb-idle").text
        await rest(hub_env, 6 * MINUTE)
        await eventually(lambda: goes_on(hub_env), "it goes on without GPUs")
        assert (await read_lease(hub_env, "alice"))["gpus_given_back"] == 2
        servers = {
            name for what, name in hub_env.engine.calls if what == "create" and "-server-" in name
        }
        assert len(servers) == 2, "it was started anew once"
        assert hub_env.container(hub_env.last_lease()).body["HostConfig"]["Mounts"] == volume
        home = parse((await browser.get("/hub/home")).text)
        assert "Ask for 2 GPUs again" in one(home, "#wb-requeue").text
    async with hub_env.client("alice") as client:
        answer = await client.post("/hub/api/workbench/server/requeue")
        assert answer.status_code == 202, answer.text
        await eventually(lambda: hub_env.user("alice").spawner.ready, "it has GPUs again")
        twice = await client.post("/hub/api/workbench/server/requeue")
    (lease,) = hub_env.live()
    assert (lease.gpu_count, lease.hours, lease.when_idle.value) == (2, 9.0, "go_on")
    assert twice.status_code == 409


async def test_a_server_that_was_deleted_since_requests_nothing_again(
    hub_env: HubEnvironment,
) -> None:
    named = "/hub/api/users/alice/servers/x"
    async with hub_env.client("alice") as client:
        assert (await client.post(named, json={"gpus": 1, "hours": 9})).status_code == 201
        await rest(hub_env, IDLE + MINUTE, "x")
        await eventually(lambda: ended(hub_env, "x"), "it was ended")
        await eventually(lambda: not hub_env.user("alice").spawners["x"].active, "the hub knows")
        deleted = await client.request("DELETE", named, json={"remove": True})
        assert deleted.status_code == 204, deleted.text
        answer = await client.post("/hub/api/workbench/servers/x/requeue")
    assert (answer.status_code, answer.json()["message"]) == (
        404,
        "alice has no server named 'x': add it on the home page.",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"busy_kernels": True},
        {"busy_kernels": -1},
        {"kernels_quiet_seconds": "long"},
        {"terminals_quiet_seconds": 1e300},
        {"more": 1},
    ],
)
async def test_what_is_no_word_of_a_server_is_refused(
    hub_env: HubEnvironment, changes: Any
) -> None:
    async with hub_env.client("alice") as client:
        answer = await client.post("/hub/api/workbench/server/activity", json={**GOLDEN, **changes})
    assert answer.status_code == 400
    assert answer.json()["message"].endswith(".")


async def test_the_form_lets_people_choose(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        page = parse((await browser.get("/hub/spawn/alice")).text)
    assert "are idle for 30 min" in one(page, "#wb-when-idle legend").text
    assert one(page, "#when-idle-stop").has_attr("checked")


async def test_notices_of_a_server_are_on_its_users_page(hub_env: HubEnvironment) -> None:
    notice = "The folder ~/.jupyter cannot be used: <b>rename it</b>."
    without = {key: value for key, value in REST.items() if key != "notices"}
    path = server_url("", "activity")
    async with hub_env.browser() as browser, hub_env.client("alice") as client:
        await join(hub_env, browser, "alice")
        await start(hub_env, "alice", {"gpus": 0})
        assert (await post_activity(client, notices=[notice]))["notices"] == [notice]
        for notices in ("x", [1], ["x" * 501], ["x"] * 11):
            answer = await client.post(path, json={**without, "notices": notices})
            assert answer.status_code == 400, answer.text
        assert notice in parse((await browser.get("/hub/home")).text).text
        # as a server that was started before an upgrade of the hub
        assert (await client.post(path, json=without)).status_code == 200
    assert (await read_lease(hub_env, "alice"))["notices"] == []
