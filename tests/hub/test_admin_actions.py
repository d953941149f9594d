"""Admin actions over REST: their effect, their scopes, and what the users concerned see."""

import asyncio
from typing import Any

import httpx
import pytest

from spawner.containers import Containers
from spawner.hub.schema.leases import QueueMoveBody
from spawner.ledger.trail import TrailAction
from spawner.model import Cause, LeaseState
from testing.eventually import eventually
from tests.hub.accounts import join
from tests.hub.hub_env import HubEnvironment
from tests.hub.pages import parse
from tests.hub.people import give_scopes, make_service
from tests.hub.servers import lease_of, queued_users, start, wait_in_queue

WHY = "the fan is loud"
API = "/hub/api/workbench"


async def order(
    hub_env: HubEnvironment, path: str, body: Any = None, name: str = "root"
) -> tuple[int, str]:
    async with hub_env.client(name, is_admin=name == "root") as client:
        method = "PATCH" if path.startswith("queue/") else "POST"
        sent = {"reason": WHY} if body is None else body
        answer = await client.request(method, f"{API}/{path}", json=sent)
    return answer.status_code, answer.json()["message"] if answer.content else ""


def last_entry(hub_env: HubEnvironment) -> tuple[TrailAction, str, str | None]:
    entry = hub_env.ledger.trail(limit=1)[0].entry
    return entry.action, entry.actor, entry.reason


async def test_a_gpu_is_drained_and_undrained(hub_env: HubEnvironment) -> None:
    hub_env.be_brisk()
    await start(hub_env, "alice", {"gpus": 1})
    assert await order(hub_env, "gpus/GPU-0/drain") == (204, "")
    assert last_entry(hub_env) == (TrailAction.GPU_DRAINED, "root", WHY)
    assert await order(hub_env, "gpus/GPU-1/drain") == (204, "")
    assert lease_of(hub_env, "alice").state is LeaseState.RUNNING
    status, message = await start(hub_env, "bob", {"gpus": 1})
    assert (status, "this workbench has no GPU (2 more are drained)" in message) == (400, True)
    async with hub_env.client("bob") as client:
        (first, second) = (await client.get(f"{API}/gpus")).json()["devices"]
    assert (first["drain"]["reason"], first["drain"]["by"]) == (WHY, "root")
    assert (first["holder"], second["holder"]) == ("alice", None)
    assert await order(hub_env, "gpus/GPU-1/undrain") == (204, "")
    assert (await start(hub_env, "bob", {"gpus": 1}))[0] == 201
    assert lease_of(hub_env, "bob").gpu_uuids == ("GPU-1",)


async def test_a_drain_stays_over_a_restart(hub_env: HubEnvironment) -> None:
    await order(hub_env, "gpus/GPU-0/drain")
    await hub_env.close_hub()
    await hub_env.open_hub()
    await start(hub_env, "alice", {"gpus": 1})
    assert lease_of(hub_env, "alice").gpu_uuids == ("GPU-1",)


async def test_the_form_and_the_line_show_it(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        await order(hub_env, "gpus/GPU-1/drain")
        form = parse((await browser.get("/hub/spawn/alice")).text)
        text = (await browser.get("/hub/queue")).text
    assert f"taken out of use by an admin: {WHY}" in form.text
    assert "an admin keeps 1 of 2 out of use" in form.text
    assert "1 of 2 GPUs free now, 1 drained" in " ".join(text.split())


async def test_an_order_to_end_a_lease_is_answered_before_docker_has_obeyed(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go, remove = asyncio.Event(), Containers.remove

    async def remove_slowly(self: Containers, name: str, grace_seconds: int) -> None:
        await may_go.wait()
        await remove(self, name, grace_seconds)

    await start(hub_env, "alice", {"gpus": 1})
    lease = lease_of(hub_env, "alice")
    monkeypatch.setattr(Containers, "remove", remove_slowly)
    assert await order(hub_env, f"leases/{lease.id}/end") == (204, "")
    assert lease_of(hub_env, "alice").state is LeaseState.CLOSING
    may_go.set()
    await eventually(lambda: not hub_env.user("alice").spawner.active, "it is gone")


async def test_an_ended_lease_is_shown_to_its_user_with_the_reason(hub_env: HubEnvironment) -> None:
    hub_env.be_brisk()
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        await start(hub_env, "alice", {"gpus": 2})
        lease = lease_of(hub_env, "alice")
        await wait_in_queue(hub_env, "bob")
        assert await order(hub_env, f"leases/{lease.id}/end") == (204, "")
        await eventually(lambda: not hub_env.user("alice").spawner.active, "the hub knows it")
        home = parse((await browser.get("/hub/home")).text)
        async with hub_env.client("alice") as client:
            ended = (await client.get(f"{API}/server/lease")).json()["last_end"]
    ended_lease = hub_env.ledger.lease(lease.id)
    assert ended_lease is not None
    assert ended_lease.cause is Cause.ADMIN
    assert ended["cause"] == "admin"
    assert f": {WHY}" in home.text
    assert "An admin ended your lease at" in home.text
    await eventually(lambda: hub_env.user("bob").spawner.ready, "bob's turn")
    status, message = await order(hub_env, f"leases/{lease.id}/end")
    assert (status, message) == (409, "This lease is over already: nothing to end.")
    unknown = await order(hub_env, "leases/0123456789abcdef/end")
    assert unknown == (404, "There is no lease '0123456789abcdef': take its id from the map.")


async def test_who_is_taken_out_of_line_sees_why(hub_env: HubEnvironment) -> None:
    hub_env.be_brisk()
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "bob")
        await start(hub_env, "alice", {"gpus": 2})
        await wait_in_queue(hub_env, "bob")
        assert (await order(hub_env, f"leases/{lease_of(hub_env, 'bob').id}/end"))[0] == 204
        await eventually(lambda: not hub_env.user("bob").spawner.pending, "it was given up")
        page = await browser.get("/hub/spawn-pending/bob")
    assert f"An admin took your request out of the queue: {WHY}" in page.text
    assert queued_users(hub_env) == []


async def test_who_waits_is_moved(hub_env: HubEnvironment) -> None:
    hub_env.be_brisk()
    await start(hub_env, "alice", {"gpus": 2})
    await wait_in_queue(hub_env, "bob", "carol", "dan")
    path = f"queue/{lease_of(hub_env, 'dan').id}"
    assert await order(hub_env, path, {"to": "first", "reason": "a deadline"}) == (204, "")
    await eventually(lambda: queued_users(hub_env) == ["dan", "bob", "carol"], "dan is first")
    assert last_entry(hub_env) == (TrailAction.LEASE_MOVED, "root", "a deadline")
    assert await order(hub_env, path, {"to": "last", "reason": WHY}) == (204, "")
    await eventually(lambda: queued_users(hub_env) == ["bob", "carol", "dan"], "dan is last")
    status, message = await order(hub_env, path, {"to": "middle", "reason": WHY})
    assert (status, message) == (400, QueueMoveBody.sentence)


@pytest.mark.parametrize(
    "body",
    [{}, {"reason": ""}, {"reason": " "}, {"reason": 5}, {"reason": "x" * 201}, [], {"why": "x"},
     {"reason": "x", "to": "y"}, {"reason": "a\nb"}],
)  # fmt: skip
async def test_an_order_without_a_reason_is_refused(hub_env: HubEnvironment, body: Any) -> None:
    status, message = await order(hub_env, "gpus/GPU-0/drain", body)
    assert status == 400
    assert message
    assert hub_env.ledger.drains() == ()


ORDERS = ["gpus/GPU-0/drain", "gpus/GPU-0/undrain", "leases/0/end", "queue/0"]


@pytest.mark.parametrize("path", ORDERS)
async def test_orders_are_for_admins_and_holders_of_the_scope(
    hub_env: HubEnvironment, path: str
) -> None:
    body = {"reason": WHY, **({"to": "first"} if "queue" in path else {})}
    async with hub_env.browser() as anybody:
        assert (
            await anybody.request(
                "PATCH" if "queue" in path else "POST", f"{API}/{path}", json=body
            )
        ).status_code == 403
    status, message = await order(hub_env, path, body, name="alice")
    assert status == 403
    assert "custom:workbench:" in message
    scope = message.removeprefix("This needs the scope ").rstrip(".")
    give_scopes(hub_env, hub_env.user("alice").orm_user, scope)
    status, _ = await order(hub_env, path, body, name="alice")
    assert status in (204, 404, 409), "it was done, or refused for another reason"


async def test_the_trail_separates_a_service_from_a_user_of_its_name(
    hub_env: HubEnvironment,
) -> None:
    async with make_service(hub_env, "root", "custom:workbench:gpus") as client:
        answer = await client.post(f"{API}/gpus/GPU-0/drain", json={"reason": WHY})
    assert answer.status_code == 204
    assert last_entry(hub_env) == (TrailAction.GPU_DRAINED, "service root", WHY)


async def test_what_the_agent_or_ledger_does_not_state_is_a_503(hub_env: HubEnvironment) -> None:
    hub_env.agent.is_silent = True
    status, message = await order(hub_env, "gpus/GPU-0/drain")
    assert status == 503
    assert "The gpu-agent does not answer; try again" in message


async def test_the_servers_own_token_orders_nothing(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    container = hub_env.container(lease_of(hub_env, "alice"))
    environment = dict(pair.split("=", 1) for pair in container.body["Env"])
    headers = {"Authorization": f"token {environment['JUPYTERHUB_API_TOKEN']}"}
    async with httpx.AsyncClient(base_url=hub_env.url, headers=headers) as client:
        path = f"{API}/leases/{lease_of(hub_env, 'alice').id}/end"
        assert (await client.post(path, json={"reason": WHY})).status_code == 403
