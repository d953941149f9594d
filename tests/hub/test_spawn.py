"""Start, refuse, stop: what a server's owner gets and what is left behind."""

import asyncio
import logging
from typing import Any

import pytest

from spawner.model import Cause, Granted, LeaseState, Refused, Request, Waiting
from testing.eventually import eventually
from testing.fakes.docker_faults import Fault
from tests.hub.hub_env import HubEnvironment
from tests.hub.servers import start, stop


async def test_a_start_ends_in_a_running_lease_with_its_container_and_route(
    hub_env: HubEnvironment,
) -> None:
    assert await start(hub_env, "alice", {"gpus": 1}) == (201, "")
    (lease,) = hub_env.live()
    assert (lease.state, lease.gpu_uuids, lease.release) == (LeaseState.RUNNING, ("GPU-0",), "v2.7")
    body = hub_env.container(lease).body
    assert body["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] == ["nvidia.com/gpu=GPU-0"]
    environment = dict(pair.split("=", 1) for pair in body["Env"])
    assert environment["JUPYTERHUB_DEFAULT_URL"] == "/lab"
    assert environment["JUPYTERHUB_SERVICE_URL"].startswith("http://0.0.0.0:")
    route = hub_env.hub.proxy.routes["/user/alice/"]
    assert route["target"].startswith(f"http://{hub_env.container(lease).name}:")
    assert [gpu.index for gpu in hub_env.user("alice").spawner.gpus] == [0]


async def test_a_grant_and_its_end_are_in_the_hubs_log(
    hub_env: HubEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    (lease,) = hub_env.live()
    await stop(hub_env, "alice")
    assert logging.getLogger("spawner").handlers
    assert f"Granted lease={lease.id} user=alice server='' gpus=GPU-0" in caplog.text
    assert f"Closed lease={lease.id}" in caplog.text


async def test_the_servers_own_token_may_only_do_what_a_server_needs(
    hub_env: HubEnvironment,
) -> None:
    await start(hub_env, "alice", {"gpus": 0})
    (lease,) = hub_env.live()
    environment = dict(pair.split("=", 1) for pair in hub_env.container(lease).body["Env"])
    headers = {"Authorization": f"token {environment['JUPYTERHUB_API_TOKEN']}"}
    async with hub_env.browser() as client:
        scopes = (await client.get("/hub/api/user", headers=headers)).json()["scopes"]
        start_another = await client.post("/hub/api/users/alice/server", headers=headers)
    assert set(scopes) <= {
        "access:servers!server=alice/",
        "read:users:activity!user=alice",
        "users:activity!user=alice",
        "read:users:groups!user=alice",
        "read:users:name!user=alice",
        "custom:workbench:leases!server=alice/",
        "custom:workbench:read:leases!server=alice/",
    }
    assert start_another.status_code in (403, 404)


async def test_a_stopped_servers_gpu_is_the_next_ones(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 2})
    (lease,) = hub_env.live()
    assert await stop(hub_env, "alice") == 204
    assert hub_env.leftovers("alice") == {}
    closed = hub_env.ledger.lease(lease.id)
    assert closed is not None
    assert (closed.state, closed.cause) == (LeaseState.CLOSED, Cause.USER)
    assert (await start(hub_env, "bob", {"gpus": 2}))[0] == 201


async def test_a_start_without_options_takes_the_last_ones(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 2})
    await stop(hub_env, "alice")
    await start(hub_env, "alice")
    assert [len(lease.gpu_uuids) for lease in hub_env.live()] == [2]


async def test_a_refused_wish_is_not_taken_for_the_next_start(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    await stop(hub_env, "alice")
    assert (await start(hub_env, "alice", {"gpus": -1}))[0] == 400
    assert (await start(hub_env, "alice"))[0] == 201
    assert [len(lease.gpu_uuids) for lease in hub_env.live()] == [1]


FAILURES: dict[str, tuple[str, Fault]] = {
    "the Engine refuses to create": ("create", Fault.ERROR),
    "the Engine refuses to start": ("start", Fault.ERROR),
    "the Engine talks nonsense": ("create", Fault.GARBAGE),
    "the Engine hangs up": ("start", Fault.DROP),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failed_start_gives_everything_back_and_can_be_tried_again(
    hub_env: HubEnvironment, failure: str
) -> None:
    operation, fault = FAILURES[failure]
    await start(hub_env, "alice", {"gpus": 0})  # the home is prepared
    await stop(hub_env, "alice")
    hub_env.engine.plan(operation, fault)
    status, message = await start(hub_env, "alice", {"gpus": 1})
    assert status == 503
    assert message
    assert "\n" not in message
    assert hub_env.leftovers("alice") == {}
    assert hub_env.last_lease().cause is Cause.FAILED
    assert (await start(hub_env, "alice", {"gpus": 1}))[0] == 201


async def test_a_container_that_ends_before_it_answers_is_reported_with_its_last_words(
    hub_env: HubEnvironment,
) -> None:
    hub_env.servers.is_mute = True
    starting = asyncio.create_task(start(hub_env, "alice", {"gpus": 1}))

    def started() -> Any:
        return [c for c in hub_env.engine.containers.values() if c.is_running]

    (container,) = await eventually(started, "the container runs")
    container.log = ["one", "ModuleNotFoundError: no lab"]
    container.exit_code = 3
    container.is_running = False
    status, message = await starting
    assert status == 500
    assert "exit code 3" in message
    assert "ModuleNotFoundError: no lab" in message
    assert hub_env.leftovers("alice") == {}


async def test_a_missing_image_is_one_sentence(hub_env: HubEnvironment) -> None:
    hub_env.engine.images.clear()
    status, message = await start(hub_env, "alice", {"gpus": 1})
    assert status == 500
    assert "pytorch-cuda:v2.7" in message
    assert hub_env.leftovers("alice") == {}


def is_being_started(hub_env: HubEnvironment) -> bool:
    return any("prepare-home" not in name for name in hub_env.engine.containers)


async def test_giving_up_a_pending_start_frees_the_gpu(hub_env: HubEnvironment) -> None:
    hub_env.servers.is_mute = True
    async with hub_env.client("alice") as client:
        starting = asyncio.create_task(client.post("/hub/api/users/alice/server", json={"gpus": 1}))
        await eventually(lambda: is_being_started(hub_env), "the container exists")
        gave_up = await client.delete("/hub/api/users/alice/server")
        assert gave_up.status_code in (202, 204)
        await asyncio.wait([starting])
    await eventually(lambda: not hub_env.live(), "the lease is closed")
    assert hub_env.leftovers("alice") == {}
    assert hub_env.last_lease().cause is Cause.USER
    hub_env.servers.is_mute = False
    assert (await start(hub_env, "alice", {"gpus": 1}))[0] == 201


async def test_giving_up_before_the_container_exists_is_the_users_doing(
    hub_env: HubEnvironment,
) -> None:
    await start(hub_env, "alice", {"gpus": 0})  # the home is prepared
    await stop(hub_env, "alice")
    hub_env.engine.plan("create", Fault.HANG)
    hub_env.engine.calls.clear()
    async with hub_env.client("alice") as client:
        starting = asyncio.create_task(client.post("/hub/api/users/alice/server", json={"gpus": 1}))
        await eventually(lambda: "create" in dict(hub_env.engine.calls), "Docker is asked")
        await client.delete("/hub/api/users/alice/server")
        await asyncio.wait([starting])
    await eventually(lambda: not hub_env.live(), "the lease is closed")
    assert hub_env.last_lease().cause is Cause.USER
    assert hub_env.leftovers("alice") == {}


async def test_a_claim_made_while_its_user_gives_up_is_given_back(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []
    acquire = hub_env.controller.acquire

    async def note(request: Request) -> Granted | Waiting | Refused:
        answers.append(await acquire(request))
        return answers[-1]

    monkeypatch.setattr(hub_env.controller, "acquire", note)
    hub_env.agent.may_answer.clear()
    async with hub_env.client("alice") as client:
        starting = asyncio.create_task(client.post("/hub/api/users/alice/server", json={"gpus": 1}))
        await hub_env.agent.was_asked.wait()
        await client.delete("/hub/api/users/alice/server")
        await asyncio.wait([starting])
    hub_env.agent.may_answer.set()
    await eventually(lambda: answers, "the claim is made")
    assert isinstance(answers[0], Granted)
    await eventually(lambda: not hub_env.live(), "the claim is given back")
    assert hub_env.leftovers("alice") == {}


async def test_nothing_starts_before_the_controller_has_reconciled(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spawner.controller.controller.READY_TIMEOUT_SECONDS", 0.05)
    await hub_env.close_hub()
    await hub_env.open_hub(is_running=False)
    status, message = await start(hub_env, "alice", {"gpus": 1})
    assert status == 503
    assert "try again" in message
    assert hub_env.leftovers("alice") == {}


async def test_a_silent_agent_still_lets_servers_without_gpus_start(
    hub_env: HubEnvironment,
) -> None:
    hub_env.agent.is_silent = True
    assert (await start(hub_env, "alice", {"gpus": 1}))[0] == 503
    assert (await start(hub_env, "alice", {"gpus": 0}))[0] == 201
