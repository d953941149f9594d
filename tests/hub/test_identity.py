"""Who leaves leaves nothing behind, who gets their name gets nothing of theirs, and a new name keeps the home."""

import asyncio
from typing import Any

import pytest
from jupyterhub import orm

from spawner.hub.identity import identify
from spawner.model import Account, Cause, Lease, LeaseState, Request
from tests.fakes.docker_engine import Fault
from tests.hub.test_sign_up import join
from tests.hub.test_spawn import start, stop
from tests.hub.test_wait import line
from tests.hub.town import Town, eventually, log_in

WHOLE_HOST = {"gpus": 2}


async def delete(town: Town, name: str) -> tuple[int, str]:
    async with town.client("root", is_admin=True) as client:
        answer = await client.delete(f"/hub/api/users/{name}")
    return answer.status_code, answer.json()["message"] if answer.content else ""


async def rename(town: Town, name: str, new_name: str) -> tuple[int, str]:
    async with town.client("root", is_admin=True) as client:
        answer = await client.patch(f"/hub/api/users/{name}", json={"name": new_name})
    return answer.status_code, answer.json().get("message", "")


def account(town: Town, name: str) -> Account:
    found = town.ledger.find_account(identify(town.user(name)))
    assert found is not None
    return found


def home_of(town: Town, lease: Lease) -> str:
    source: str = town.container(lease).body["HostConfig"]["Mounts"][0]["Source"]
    return source


def ghosts(town: Town, name: str) -> dict[str, Any]:
    """Return everything in hub, ledger and Docker that is still called by ``name``."""
    town.hub.db.expire_all()
    rows = town.hub.db.query
    found = {
        "user": rows(orm.User).filter_by(name=name).all(),
        "spawners": rows(orm.Spawner).filter(orm.Spawner.user_id.is_(None)).all(),
        "tokens": [t for t in rows(orm.APIToken) if t.user is None and t.service is None],
        "servers": [s.base_url for s in rows(orm.Server) if f"/user/{name}/" in s.base_url],
        "clients": [
            c for c in rows(orm.OAuthClient) if c.identifier.startswith(f"jupyterhub-user-{name}")
        ],
        "leases": [lease for lease in town.live() if lease.user == name],
        "containers": [c for c in town.engine.containers if f"-{name}-" in c],
        "routes": [route for route in town.hub.proxy.routes if f"/user/{name}/" in route],
        "line": name in line(town),
    }
    return {key: value for key, value in found.items() if value}


async def nothing(town: Town) -> None:
    town.user("bob").spawner  # noqa: B018 - makes its row


async def running(town: Town) -> None:
    assert (await start(town, "bob", {"gpus": 1}))[0] == 201


async def waiting(town: Town) -> None:
    assert (await start(town, "alice", WHOLE_HOST))[0] == 201
    assert (await start(town, "bob", {"gpus": 1}))[0] == 202


async def starting(town: Town) -> None:
    town.servers.is_mute = True
    town.be_brisk()
    assert (await start(town, "bob", {"gpus": 1}))[0] == 202


async def named(town: Town) -> None:
    """One runs, one waits, one is only described, one starts."""
    await start(town, "alice", {"gpus": 1})
    url = "/hub/api/users/bob/servers"
    async with town.client("bob") as client:
        await client.post(f"{url}/runs", json={"gpus": 1})
        await client.post(f"{url}/waits", json={"gpus": 1})
        await client.put(f"{url}/described")
        town.servers.is_mute = True
        town.be_brisk()
        assert (await client.post(f"{url}/starts", json={"gpus": 0})).status_code == 202


@pytest.mark.parametrize("bring_about", [nothing, running, waiting, starting, named])
async def test_a_deleted_user_leaves_nothing_behind(town: Town, bring_about: Any) -> None:
    await bring_about(town)
    assert await delete(town, "bob") == (204, "")
    await eventually(lambda: ghosts(town, "bob") == {}, "nothing is left of bob")


async def test_nobody_is_deleted_before_docker_has_shown_their_server_gone(town: Town) -> None:
    await running(town)
    (lease,) = town.live()
    town.hub.tornado_application.settings["slow_stop_timeout"] = 0.5
    town.engine.plan("delete", *[Fault.ERROR] * 1000)
    town.engine.plan("inspect", *[Fault.ERROR] * 1000)
    status, message = await delete(town, "bob")
    assert (status, "delete them again" in message) == (409, True)
    assert orm.User.find(town.hub.db, "bob") is not None
    town.engine.forget()
    await eventually(lambda: not town.live(), "the server is gone")
    assert (await delete(town, "bob"))[0] == 204
    closed = town.ledger.lease(lease.id)
    assert closed is not None
    assert closed.cause is Cause.USER


async def test_a_delete_that_is_not_allowed_stops_nothing(town: Town) -> None:
    await running(town)
    async with town.client("alice") as client:
        assert (await client.delete("/hub/api/users/bob")).status_code in (403, 404)
    assert town.user("bob").spawner.ready


async def test_who_gets_a_deleted_users_name_gets_nothing_else_of_theirs(town: Town) -> None:
    await running(town)
    (lease,) = town.live()
    old, old_home = account(town, "bob"), home_of(town, lease)
    async with town.client("bob") as before:
        assert (await delete(town, "bob"))[0] == 204
        await running(town)  # by town.user, which makes them anew
        assert (await before.get("/hub/api/user")).status_code == 403, "no old token"
    (lease,) = town.live()
    new = account(town, "bob")
    assert new.uid != old.uid
    assert home_of(town, lease) != old_home
    assert town.container(lease).body["User"] == f"{new.uid}:{new.uid}"


async def test_how_a_predecessors_server_ended_is_nobodys_business(town: Town) -> None:
    await running(town)
    (lease,) = town.live()
    town.engine.end(town.container(lease).name, 3)
    await eventually(lambda: not town.live(), "it ended by itself")
    async with town.client("bob") as client:
        own = await client.get("/hub/api/workbench/lease/")
    assert own.json()["last_end"]["cause"] == "exited"
    await delete(town, "bob")
    async with town.client("bob") as client:
        other = await client.get("/hub/api/workbench/lease/")
    assert other.json()["last_end"] is None


async def test_a_place_in_line_is_not_inherited_with_the_name(town: Town) -> None:
    await waiting(town)
    assert (await start(town, "carol", {"gpus": 1}))[0] == 202
    old = account(town, "bob")
    await town.close_hub()
    # by another way than the hub's: its ledger knows nothing of it
    await town.open_hub(is_running=False)
    town.hub.users.delete(town.user("bob"))
    town.user("bob")
    town.start_beside()
    await eventually(lambda: town.user("carol").spawner.pending == "spawn", "carol waits again")
    await eventually(lambda: "bob" not in line(town) or line(town)[-1] == "bob", "bob is behind")
    assert all(lease.uid != old.uid for lease in town.live() if lease.user == "bob")


@pytest.mark.parametrize("gpus", [0, 1])
async def test_what_nobody_came_for_is_not_inherited_with_the_name(town: Town, gpus: int) -> None:
    options, now = town.workbench.parse({"gpus": gpus}), town.workbench.clock()
    before = Request("bob", "", options, "whoever bob was before")
    left = town.ledger.admit(before, lambda *_: None, quota=town.settings.quota, now=now)
    assert isinstance(left, Lease)
    assert left.state is (LeaseState.WAITING if gpus else LeaseState.GRANTED)
    assert (await start(town, "bob", {"gpus": gpus}))[0] == 201
    (lease,) = town.live()
    assert lease.id != left.id
    assert lease.uid == account(town, "bob").uid != left.uid
    closed = town.ledger.lease(left.id)
    assert closed is not None
    assert closed.state is LeaseState.CLOSED


async def test_a_renamed_user_keeps_home_and_uid(town: Town) -> None:
    await running(town)
    before, home = account(town, "bob"), home_of(town, town.live()[0])
    await stop(town, "bob")
    assert await rename(town, "bob", "robert") == (200, "")
    assert (await start(town, "robert", {"gpus": 1}))[0] == 201
    (lease,) = town.live()
    assert account(town, "robert") == before
    assert home_of(town, lease) == home
    assert "/user/robert/" in town.hub.proxy.routes
    assert ghosts(town, "bob") == {}


@pytest.mark.parametrize("bring_about", [running, waiting, starting, named])
async def test_nobody_is_renamed_while_a_lease_has_their_name(town: Town, bring_about: Any) -> None:
    await bring_about(town)
    before = {lease.id for lease in town.live()}
    status, message = await rename(town, "bob", "robert")
    assert (status, "stop it, then rename" in message) == (409, True)
    assert {lease.id for lease in town.live()} == before
    assert town.user("bob").name == "bob"


async def test_a_renamed_user_logs_in_by_the_new_name_only(town: Town) -> None:
    async with town.browser() as browser, town.browser() as other:
        await join(town, browser, "bob")
        assert await rename(town, "bob", "robert") == (200, "")
        assert (await log_in(other, "bob")).status_code != 302
        assert (await log_in(other, "robert")).status_code == 302
    assert orm.User.find(town.hub.db, "bob") is None


async def test_nobody_is_given_a_name_that_somebody_signed_up_with(town: Town) -> None:
    async with town.browser() as browser, town.browser() as other:
        await join(town, browser, "bob")
        await join(town, other, "robert")
    town.hub.users.delete(town.user("robert"))
    status, message = await rename(town, "bob", "robert")
    assert (status, "signed up" in message) == (409, True)


@pytest.mark.parametrize("name", ["", "two words", "a/b", "x" * 65, "BOB\n", "carol"])
async def test_a_name_that_cannot_be_is_one_sentence(town: Town, name: str) -> None:
    town.user("bob")
    town.user("carol")
    status, message = await rename(town, "bob", name)
    assert status == 400
    assert "\n" not in message
    assert town.user("bob").name == "bob"


async def test_who_was_deleted_behind_the_hubs_back_keeps_a_running_server_until_its_end(
    town: Town,
) -> None:
    """A hub database restored from a backup lacks people too: that kills nobody's work."""
    await running(town)
    (lease,) = town.live()
    await town.close_hub()
    await town.open_hub(is_running=False)
    town.hub.users.delete(town.user("bob"))
    town.start_beside()
    await eventually(lambda: town.controller.is_ready, "reconciled")
    await asyncio.sleep(0.5)  # what must not happen would by now
    assert town.live() == [lease]
    assert town.container(lease).is_running
    town.skip(25 * 3600)
    await eventually(lambda: not town.live(), "its time is over")
    assert town.engine.containers == {}
