"""What an admin orders over REST, who may, and what those whom it concerns are told."""

import asyncio
from typing import Any

import httpx
import pytest
from bs4 import BeautifulSoup

from spawner.containers import Containers
from spawner.ledger.trail import Action
from spawner.model import Cause, LeaseState
from tests.hub.people import give_scopes, make_service
from tests.hub.test_sign_up import join
from tests.hub.test_spawn import start
from tests.hub.test_wait import lease_of, line, wait_in_line
from tests.hub.town import Town, eventually

WHY = "the fan is loud"
API = "/hub/api/workbench"


async def order(town: Town, path: str, body: Any = None, name: str = "root") -> tuple[int, str]:
    async with town.client(name, is_admin=name == "root") as client:
        answer = await client.post(f"{API}/{path}", json={"reason": WHY} if body is None else body)
    return answer.status_code, answer.json()["message"] if answer.content else ""


def told(town: Town) -> tuple[Action, str, str | None]:
    entry = town.ledger.trail(limit=1)[0].entry
    return entry.action, entry.actor, entry.reason


async def test_a_gpu_is_drained_and_undrained(town: Town) -> None:
    town.be_brisk()
    await start(town, "alice", {"gpus": 1})
    assert await order(town, "gpus/GPU-0/drain") == (204, "")
    assert told(town) == (Action.GPU_DRAINED, "root", WHY)
    assert await order(town, "gpus/GPU-1/drain") == (204, "")
    assert lease_of(town, "alice").state is LeaseState.RUNNING
    status, message = await start(town, "bob", {"gpus": 1})
    assert (status, "this workbench has no GPU (2 more are drained)" in message) == (400, True)
    async with town.client("bob") as client:
        (first, second) = (await client.get(f"{API}/gpus")).json()["gpus"]
    assert (first["drain"]["reason"], first["drain"]["by"]) == (WHY, "root")
    assert (first["holder"], second["holder"]) == ("alice", None)
    assert await order(town, "gpus/GPU-1/undrain") == (204, "")
    assert (await start(town, "bob", {"gpus": 1}))[0] == 201
    assert lease_of(town, "bob").gpu_uuids == ("GPU-1",)


async def test_a_drain_stays_over_a_restart(town: Town) -> None:
    await order(town, "gpus/GPU-0/drain")
    await town.close_hub()
    await town.open_hub()
    await start(town, "alice", {"gpus": 1})
    assert lease_of(town, "alice").gpu_uuids == ("GPU-1",)


async def test_the_form_and_the_line_say_it(town: Town) -> None:
    async with town.browser() as browser:
        await join(town, browser, "alice")
        await order(town, "gpus/GPU-1/drain")
        form = BeautifulSoup((await browser.get("/hub/spawn/alice")).text, "html.parser")
        text = (await browser.get("/hub/line")).text
    assert f"drained: {WHY}" in form.text
    assert "1 of 2 drained" in form.text
    assert "1 of 2 GPUs free now, 1 drained" in " ".join(text.split())


async def test_an_order_to_end_a_lease_is_answered_before_docker_has_obeyed(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go, remove = asyncio.Event(), Containers.remove

    async def remove_slowly(self: Containers, name: str, grace_seconds: int) -> None:
        await may_go.wait()
        await remove(self, name, grace_seconds)

    await start(town, "alice", {"gpus": 1})
    lease = lease_of(town, "alice")
    monkeypatch.setattr(Containers, "remove", remove_slowly)
    assert await order(town, f"leases/{lease.id}/end") == (204, "")
    assert lease_of(town, "alice").state is LeaseState.CLOSING
    may_go.set()
    await eventually(lambda: not town.user("alice").spawner.active, "it is gone")


async def test_an_ended_lease_is_told_its_user_with_the_reason(town: Town) -> None:
    town.be_brisk()
    async with town.browser() as browser:
        await join(town, browser, "alice")
        await start(town, "alice", {"gpus": 2})
        lease = lease_of(town, "alice")
        await wait_in_line(town, "bob")
        assert await order(town, f"leases/{lease.id}/end") == (204, "")
        await eventually(lambda: not town.user("alice").spawner.active, "the hub knows it")
        home = BeautifulSoup((await browser.get("/hub/home")).text, "html.parser")
        async with town.client("alice") as client:
            ended = (await client.get(f"{API}/lease/")).json()["last_end"]
    ended_lease = town.ledger.lease(lease.id)
    assert ended_lease is not None
    assert ended_lease.cause is Cause.ADMIN
    assert ended["cause"] == "admin"
    assert f": {WHY}" in home.text
    assert "An admin ended your lease at" in home.text
    await eventually(lambda: town.user("bob").spawner.ready, "bob's turn")
    status, message = await order(town, f"leases/{lease.id}/end")
    assert (status, message) == (409, "This lease is over already: nothing to end.")


async def test_who_is_taken_out_of_line_is_told_why(town: Town) -> None:
    town.be_brisk()
    async with town.browser() as browser:
        await join(town, browser, "bob")
        await start(town, "alice", {"gpus": 2})
        await wait_in_line(town, "bob")
        assert (await order(town, f"leases/{lease_of(town, 'bob').id}/end"))[0] == 204
        await eventually(lambda: not town.user("bob").spawner.pending, "it was given up")
        page = await browser.get("/hub/spawn-pending/bob")
    assert f"An admin took you out of line: {WHY}" in page.text
    assert line(town) == []


async def test_who_waits_is_moved(town: Town) -> None:
    town.be_brisk()
    await start(town, "alice", {"gpus": 2})
    await wait_in_line(town, "bob", "carol", "dan")
    path = f"line/{lease_of(town, 'dan').id}/move"
    assert await order(town, path, {"to": "first", "reason": "a deadline"}) == (204, "")
    await eventually(lambda: line(town) == ["dan", "bob", "carol"], "dan is first")
    assert told(town) == (Action.LEASE_MOVED, "root", "a deadline")
    assert await order(town, path, {"to": "last", "reason": WHY}) == (204, "")
    await eventually(lambda: line(town) == ["bob", "carol", "dan"], "dan is last")
    status, message = await order(town, path, {"to": "middle", "reason": WHY})
    assert (status, message) == (400, 'Say where to: {"to": "first"} or {"to": "last"}.')


@pytest.mark.parametrize(
    "body",
    [{}, {"reason": ""}, {"reason": " "}, {"reason": 5}, {"reason": "x" * 201}, [], {"why": "x"},
     {"reason": "x", "to": "y"}, {"reason": "a\nb"}],
)  # fmt: skip
async def test_an_order_without_a_reason_is_refused(town: Town, body: Any) -> None:
    status, message = await order(town, "gpus/GPU-0/drain", body)
    assert status == 400
    assert message
    assert town.ledger.drains() == ()


ORDERS = ["gpus/GPU-0/drain", "gpus/GPU-0/undrain", "leases/0/end", "line/0/move"]


@pytest.mark.parametrize("path", ORDERS)
async def test_orders_are_for_admins_and_holders_of_the_scope(town: Town, path: str) -> None:
    body = {"reason": WHY, **({"to": "first"} if "move" in path else {})}
    async with town.browser() as anybody:
        assert (await anybody.post(f"{API}/{path}", json=body)).status_code == 403
    status, message = await order(town, path, body, name="alice")
    assert status == 403
    assert "custom:workbench:" in message
    scope = message.removeprefix("This needs the scope ").rstrip(".")
    give_scopes(town, town.user("alice").orm_user, scope)
    status, _ = await order(town, path, body, name="alice")
    assert status in (204, 404, 409), "it was done, or refused for another reason"


async def test_the_trail_tells_a_service_from_a_user_of_its_name(town: Town) -> None:
    async with make_service(town, "root", "custom:workbench:gpus") as client:
        answer = await client.post(f"{API}/gpus/GPU-0/drain", json={"reason": WHY})
    assert answer.status_code == 204
    assert told(town) == (Action.GPU_DRAINED, "service root", WHY)


async def test_what_the_agent_or_ledger_does_not_say_is_a_503(town: Town) -> None:
    town.agent.is_silent = True
    status, message = await order(town, "gpus/GPU-0/drain")
    assert status == 503
    assert "The gpu-agent does not answer." in message


async def test_the_servers_own_token_orders_nothing(town: Town) -> None:
    await start(town, "alice", {"gpus": 1})
    container = town.container(lease_of(town, "alice"))
    environment = dict(pair.split("=", 1) for pair in container.body["Env"])
    headers = {"Authorization": f"token {environment['JUPYTERHUB_API_TOKEN']}"}
    async with httpx.AsyncClient(base_url=town.url, headers=headers) as client:
        path = f"{API}/leases/{lease_of(town, 'alice').id}/end"
        assert (await client.post(path, json={"reason": WHY})).status_code == 403
