"""Homes: an admin lists them, and removes those of deleted users only."""

import io

import pytest

from spawner.ledger.trail import TrailAction
from tests.hub.hub_env import HubEnvironment
from tests.hub.servers import start, stop
from tests.hub.shell import Shell

API = "/hub/api/workbench"


@pytest.fixture
def shell(
    hub_env: HubEnvironment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shell:
    return Shell(hub_env, capsys, monkeypatch)


async def use_home(hub_env: HubEnvironment, user: str) -> str:
    """Start a server of ``user`` once and return the name of the home."""
    before = set(hub_env.engine.volumes)
    assert (await start(hub_env, user, {"gpus": 0}))[0] == 201
    await stop(hub_env, user)
    (home,) = set(hub_env.engine.volumes) - before
    return home


async def delete(hub_env: HubEnvironment, user: str) -> None:
    async with hub_env.client("root", is_admin=True) as client:
        assert (await client.delete(f"/hub/api/users/{user}")).status_code == 204


async def test_a_deleted_users_home_is_kept_listed_and_removed_by_an_admin(
    hub_env: HubEnvironment, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_env.be_brisk()
    alices, bobs = await use_home(hub_env, "alice"), await use_home(hub_env, "bob")
    assert await shell.run("home", "remove", alices, "--yes", "--reason", "left") == 1
    assert "This is the home of alice, who has an account." in shell.err
    await delete(hub_env, "alice")
    assert alices in hub_env.engine.volumes, "a deleted user's home is kept"

    assert await shell.run("home") == 0
    head, first, second, _ = shell.out.splitlines()
    assert head.split() == ["HOME", "USER", "SIZE", "LAST", "USE"]
    assert first.startswith(alices)
    assert "(deleted: alice)" in first
    assert second.split()[:2] == [bobs, "bob"]

    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    assert await shell.run("home", "remove", alices, "--reason", "left") == 1
    assert alices in hub_env.engine.volumes
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{alices}\n"))
    assert await shell.run("home", "remove", alices, "--reason", "left the team") == 0
    assert alices not in hub_env.engine.volumes
    assert bobs in hub_env.engine.volumes
    entry = hub_env.ledger.trail(limit=1)[0].entry
    assert (entry.action, entry.actor, entry.subject, entry.reason) == (
        TrailAction.HOME_REMOVED,
        "root",
        f"home {alices}",
        "left the team",
    )
    assert await shell.run("home", "remove", alices, "--yes", "--reason", "again") == 1
    assert "There is no home" in shell.err


async def test_a_new_user_of_the_same_name_gets_another_home(hub_env: HubEnvironment) -> None:
    hub_env.be_brisk()
    first = await use_home(hub_env, "alice")
    await delete(hub_env, "alice")
    assert await use_home(hub_env, "alice") != first


async def test_a_home_in_use_is_not_removed(hub_env: HubEnvironment, shell: Shell) -> None:
    hub_env.be_brisk()
    home = await use_home(hub_env, "alice")
    uid = int(home.rpartition("-")[2])
    await delete(hub_env, "alice")
    # a container that a fallen host brought back, say: Docker itself refuses
    hub_env.engine.add(
        "stray", {"HostConfig": {"Mounts": [{"Type": "volume", "Source": home}]}}, is_running=True
    )
    assert await shell.run("home", "remove", home, "--yes", "--reason", "left") == 1
    assert "volume is in use" in shell.err
    hub_env.engine.vanish("stray")
    assert await shell.run("home", "remove", home, "--yes", "--reason", "left") == 0
    account = hub_env.ledger.account(uid)
    assert account is not None
    assert account.is_home_removed
