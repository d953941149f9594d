"""Identity: a deleted user leaves nothing to the next owner of the name; a renamed user keeps the home."""

import asyncio
from typing import Any

import pytest
from jupyterhub import orm

from spawner.hub.identity import identify
from spawner.model import Account, Cause, Lease, LeaseState, Request
from testing.eventually import eventually
from testing.fakes.docker_faults import Fault
from tests.hub.accounts import join
from tests.hub.hub_env import HubEnvironment, log_in
from tests.hub.servers import queued_users, start, stop

WHOLE_HOST = {"gpus": 2}


async def delete(hub_env: HubEnvironment, name: str) -> tuple[int, str]:
    async with hub_env.client("root", is_admin=True) as client:
        answer = await client.delete(f"/hub/api/users/{name}")
    return answer.status_code, answer.json()["message"] if answer.content else ""


async def rename(hub_env: HubEnvironment, name: str, new_name: str) -> tuple[int, str]:
    async with hub_env.client("root", is_admin=True) as client:
        answer = await client.patch(f"/hub/api/users/{name}", json={"name": new_name})
    return answer.status_code, answer.json().get("message", "")


def account(hub_env: HubEnvironment, name: str) -> Account:
    found = hub_env.ledger.account_by_identity(identify(hub_env.user(name)))
    assert found is not None
    return found


def home_of(hub_env: HubEnvironment, lease: Lease) -> str:
    source: str = hub_env.container(lease).body["HostConfig"]["Mounts"][0]["Source"]
    return source


def ghosts(hub_env: HubEnvironment, name: str) -> dict[str, Any]:
    """Return everything in hub, ledger and Docker that is still called by ``name``."""
    hub_env.hub.db.expire_all()
    rows = hub_env.hub.db.query
    found = {
        "user": rows(orm.User).filter_by(name=name).all(),
        "spawners": rows(orm.Spawner).filter(orm.Spawner.user_id.is_(None)).all(),
        "tokens": [t for t in rows(orm.APIToken) if t.user is None and t.service is None],
        "servers": [s.base_url for s in rows(orm.Server) if f"/user/{name}/" in s.base_url],
        "clients": [
            c for c in rows(orm.OAuthClient) if c.identifier.startswith(f"jupyterhub-user-{name}")
        ],
        "leases": [lease for lease in hub_env.live() if lease.user == name],
        "containers": [c for c in hub_env.engine.containers if f"-{name}-" in c],
        "routes": [route for route in hub_env.hub.proxy.routes if f"/user/{name}/" in route],
        "line": name in queued_users(hub_env),
    }
    return {key: value for key, value in found.items() if value}


async def nothing(hub_env: HubEnvironment) -> None:
    hub_env.user("bob").spawner  # noqa: B018 - makes its row


async def running(hub_env: HubEnvironment) -> None:
    assert (await start(hub_env, "bob", {"gpus": 1}))[0] == 201


async def waiting(hub_env: HubEnvironment) -> None:
    assert (await start(hub_env, "alice", WHOLE_HOST))[0] == 201
    assert (await start(hub_env, "bob", {"gpus": 1}))[0] == 202


async def starting(hub_env: HubEnvironment) -> None:
    hub_env.servers.is_mute = True
    hub_env.be_brisk()
    assert (await start(hub_env, "bob", {"gpus": 1}))[0] == 202


async def named(hub_env: HubEnvironment) -> None:
    """One runs, one waits, one is only described, one starts."""
    await start(hub_env, "alice", {"gpus": 1})
    url = "/hub/api/users/bob/servers"
    async with hub_env.client("bob") as client:
        await client.post(f"{url}/runs", json={"gpus": 1})
        await client.post(f"{url}/waits", json={"gpus": 1})
        await client.put(f"{url}/described")
        hub_env.servers.is_mute = True
        hub_env.be_brisk()
        assert (await client.post(f"{url}/starts", json={"gpus": 0})).status_code == 202


@pytest.mark.parametrize("bring_about", [nothing, running, waiting, starting, named])
async def test_a_deleted_user_leaves_nothing_behind(
    hub_env: HubEnvironment, bring_about: Any
) -> None:
    await bring_about(hub_env)
    assert await delete(hub_env, "bob") == (204, "")
    await eventually(lambda: ghosts(hub_env, "bob") == {}, "nothing is left of bob")


async def test_no_one_is_deleted_before_docker_has_shown_their_server_gone(
    hub_env: HubEnvironment,
) -> None:
    await running(hub_env)
    (lease,) = hub_env.live()
    hub_env.hub.tornado_application.settings["slow_stop_timeout"] = 0.5
    hub_env.engine.plan("delete", *[Fault.ERROR] * 1000)
    hub_env.engine.plan("inspect", *[Fault.ERROR] * 1000)
    status, message = await delete(hub_env, "bob")
    assert (status, "delete the user again" in message) == (409, True)
    assert orm.User.find(hub_env.hub.db, "bob") is not None
    hub_env.engine.forget()
    await eventually(lambda: not hub_env.live(), "the server is gone")
    assert (await delete(hub_env, "bob"))[0] == 204
    closed = hub_env.ledger.lease(lease.id)
    assert closed is not None
    assert closed.cause is Cause.ADMIN


async def test_a_delete_that_is_not_allowed_stops_nothing(hub_env: HubEnvironment) -> None:
    await running(hub_env)
    async with hub_env.client("alice") as client:
        assert (await client.delete("/hub/api/users/bob")).status_code in (403, 404)
    assert hub_env.user("bob").spawner.ready


async def test_who_gets_a_deleted_users_name_gets_nothing_else_of_theirs(
    hub_env: HubEnvironment,
) -> None:
    await running(hub_env)
    (lease,) = hub_env.live()
    old, old_home = account(hub_env, "bob"), home_of(hub_env, lease)
    async with hub_env.client("bob") as before:
        assert (await delete(hub_env, "bob"))[0] == 204
        await running(hub_env)  # by hub_env.user, which makes them again
        assert (await before.get("/hub/api/user")).status_code == 403, "no old token"
    (lease,) = hub_env.live()
    new = account(hub_env, "bob")
    assert new.uid != old.uid
    assert home_of(hub_env, lease) != old_home
    assert hub_env.container(lease).body["User"] == f"{new.uid}:{new.uid}"


async def test_how_a_predecessors_server_ended_is_no_ones_business(hub_env: HubEnvironment) -> None:
    await running(hub_env)
    (lease,) = hub_env.live()
    hub_env.engine.end(hub_env.container(lease).name, 3)
    await eventually(lambda: not hub_env.live(), "it ended by itself")
    async with hub_env.client("bob") as client:
        own = await client.get("/hub/api/workbench/server/lease")
    assert own.json()["last_end"]["cause"] == "exited"
    await delete(hub_env, "bob")
    async with hub_env.client("bob") as client:
        other = await client.get("/hub/api/workbench/server/lease")
    assert other.json()["last_end"] is None


async def test_a_place_in_line_is_not_inherited_with_the_name(hub_env: HubEnvironment) -> None:
    await waiting(hub_env)
    assert (await start(hub_env, "carol", {"gpus": 1}))[0] == 202
    old = account(hub_env, "bob")
    await hub_env.close_hub()
    # by another way than the hub's: its ledger knows nothing of it
    await hub_env.open_hub(is_running=False)
    hub_env.hub.users.delete(hub_env.user("bob"))
    hub_env.user("bob")
    hub_env.start_beside()
    await eventually(lambda: hub_env.user("carol").spawner.pending == "spawn", "carol waits again")
    await eventually(
        lambda: "bob" not in queued_users(hub_env) or queued_users(hub_env)[-1] == "bob",
        "bob is behind",
    )
    assert all(lease.uid != old.uid for lease in hub_env.live() if lease.user == "bob")


@pytest.mark.parametrize("gpus", [0, 1])
async def test_what_no_one_came_for_is_not_inherited_with_the_name(
    hub_env: HubEnvironment, gpus: int
) -> None:
    options, now = hub_env.workbench.parse({"gpus": gpus}), hub_env.workbench.clock()
    before = Request("bob", "", options, "whoever bob was before")
    left = hub_env.ledger.admit(before, lambda *_: None, quota=hub_env.settings.quota, now=now)
    assert isinstance(left, Lease)
    assert left.state is (LeaseState.WAITING if gpus else LeaseState.GRANTED)
    assert (await start(hub_env, "bob", {"gpus": gpus}))[0] == 201
    (lease,) = hub_env.live()
    assert lease.id != left.id
    assert lease.uid == account(hub_env, "bob").uid != left.uid
    closed = hub_env.ledger.lease(left.id)
    assert closed is not None
    assert closed.state is LeaseState.CLOSED


async def test_a_renamed_user_keeps_home_and_uid(hub_env: HubEnvironment) -> None:
    await running(hub_env)
    before, home = account(hub_env, "bob"), home_of(hub_env, hub_env.live()[0])
    await stop(hub_env, "bob")
    assert await rename(hub_env, "bob", "robert") == (200, "")
    assert (await start(hub_env, "robert", {"gpus": 1}))[0] == 201
    (lease,) = hub_env.live()
    assert account(hub_env, "robert") == before
    assert home_of(hub_env, lease) == home
    assert "/user/robert/" in hub_env.hub.proxy.routes
    assert ghosts(hub_env, "bob") == {}


@pytest.mark.parametrize("bring_about", [running, waiting, starting, named])
async def test_no_one_is_renamed_while_a_lease_has_their_name(
    hub_env: HubEnvironment, bring_about: Any
) -> None:
    await bring_about(hub_env)
    before = {lease.id for lease in hub_env.live()}
    status, message = await rename(hub_env, "bob", "robert")
    assert (status, "stop it, then rename" in message) == (409, True)
    assert {lease.id for lease in hub_env.live()} == before
    assert hub_env.user("bob").name == "bob"


async def test_a_renamed_user_logs_in_by_the_new_name_only(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser, hub_env.browser() as other:
        await join(hub_env, browser, "bob")
        assert await rename(hub_env, "bob", "robert") == (200, "")
        assert (await log_in(other, "bob")).status_code != 302
        assert (await log_in(other, "robert")).status_code == 302
    assert orm.User.find(hub_env.hub.db, "bob") is None


async def test_no_one_is_given_a_name_that_another_user_signed_up_with(
    hub_env: HubEnvironment,
) -> None:
    async with hub_env.browser() as browser, hub_env.browser() as other:
        await join(hub_env, browser, "bob")
        await join(hub_env, other, "robert")
    hub_env.hub.users.delete(hub_env.user("robert"))
    status, message = await rename(hub_env, "bob", "robert")
    assert (status, "There is a sign-up as" in message) == (409, True)


@pytest.mark.parametrize("name", ["", "two words", "a/b", "x" * 65, "BOB\n", "carol"])
async def test_a_name_that_cannot_be_is_one_sentence(hub_env: HubEnvironment, name: str) -> None:
    hub_env.user("bob")
    hub_env.user("carol")
    status, message = await rename(hub_env, "bob", name)
    assert status == 400
    assert "\n" not in message
    assert hub_env.user("bob").name == "bob"


async def test_who_was_deleted_behind_the_hubs_back_keeps_a_running_server_until_its_end(
    hub_env: HubEnvironment,
) -> None:
    """A hub database restored from a backup lacks users too: their servers run on."""
    await running(hub_env)
    (lease,) = hub_env.live()
    await hub_env.close_hub()
    await hub_env.open_hub(is_running=False)
    hub_env.hub.users.delete(hub_env.user("bob"))
    hub_env.start_beside()
    await eventually(lambda: hub_env.controller.is_ready, "reconciled")
    await asyncio.sleep(0.5)  # a wrong end would have come by now
    assert hub_env.live() == [lease]
    assert hub_env.container(lease).is_running
    hub_env.skip(25 * 3600)
    await eventually(lambda: not hub_env.live(), "its time is over")
    assert hub_env.engine.containers == {}
