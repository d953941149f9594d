"""Homes: an admin lists them, and removes those of deleted users only."""

import io

import pytest

from spawner.ledger.trail import TrailAction
from spawner.settings import Settings
from tests.hub.accounts import admin, join
from tests.hub.fake_disk import fill
from tests.hub.hub_env import HubEnvironment
from tests.hub.pages import one, parse
from tests.hub.servers import read_lease, start, stop
from tests.hub.shell import Shell

API = "/hub/api/workbench"


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


async def test_a_home_is_mended_at_the_next_start(hub_env: HubEnvironment, shell: Shell) -> None:
    hub_env.be_brisk()
    home = await use_home(hub_env, "alice")
    uid = int(home.rpartition("-")[2])

    def is_prepared() -> bool:
        account = hub_env.ledger.account(uid)
        assert account is not None
        return account.is_home_prepared

    assert await shell.run("home", "mend", "zoe", "--reason", "restored") == 1
    assert "There is no home 'zoe'" in shell.err
    assert (await start(hub_env, "alice", {"gpus": 0}))[0] == 201
    assert await shell.run("home", "mend", "alice", "--reason", "restored") == 1
    assert "A server uses this home" in shell.err
    await stop(hub_env, "alice")
    for name in ("alice", home):
        assert is_prepared()
        assert await shell.run("home", "mend", name, "--reason", "restored") == 0
        assert not is_prepared()
        entry = hub_env.ledger.trail(limit=1)[0].entry
        assert (entry.action, entry.subject) == (TrailAction.HOME_MENDED, f"home {home}")
        assert (await start(hub_env, "alice", {"gpus": 0}))[0] == 201
        await stop(hub_env, "alice")


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


async def test_a_full_disk_is_shown_to_admins_and_in_the_trail(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = hub_env.workbench.disk
    before = len(hub_env.ledger.trail())
    await disk.update()
    for percent_free, actions in ((11, []), (9, ["disk.low"]), (11, ["disk.low"])):
        fill(monkeypatch, percent_free)
        await disk.update()
        written = hub_env.ledger.trail()
        assert [one.entry.action for one in written[: len(written) - before]] == actions
    async with admin(hub_env) as browser:
        page = parse((await browser.get("/hub/queue")).text)
    assert "Only 11 GiB of 100 GiB are free on the disk of the homes" in page.text
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        assert "are free on" not in parse((await browser.get("/hub/queue")).text).text
    fill(monkeypatch, 13)
    await disk.update()
    assert hub_env.ledger.trail(limit=1)[0].entry.action is TrailAction.DISK_RECOVERED
    assert disk.trouble is None


class TestQuota:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return Settings(ledger_url=settings.ledger_url, home_quota_bytes=5 * 1024**3)

    async def test_over_its_quota_a_home_starts_no_new_server(
        self, hub_env: HubEnvironment
    ) -> None:
        hub_env.be_brisk()
        async with hub_env.browser() as browser:
            await join(hub_env, browser, "alice")
            home = await use_home(hub_env, "alice")
            measured = hub_env.engine.usage
            measured[home] = 6 * 1024**3
            await hub_env.workbench.disk.update()
            status, message = await start(hub_env, "alice", {"gpus": 0})
            assert (status, message[:43]) == (409, "Your home has 6.0 GiB and may have 5.0 GiB:")
            assert message[:43] in parse((await browser.get("/hub/home")).text).text
            assert (await start(hub_env, "bob", {"gpus": 0}))[0] == 201
            assert (await read_lease(hub_env, "bob"))["home_quota_bytes"] == 5 * 1024**3
            repair = {"gpus": 0, "start_mode": "repair"}
            assert (await start(hub_env, "alice", repair))[0] == 201, "files can be deleted there"
            await stop(hub_env, "alice")
            for size, said in ((4.6, "larger one starts no new server"), (4, "4.0 GiB of 5.0 GiB")):
                measured[home] = int(size * 1024**3)
                await hub_env.workbench.disk.update()
                page = parse((await browser.get("/hub/home")).text)
                assert said in one(page, "#wb-home-use").text
            assert "larger" not in one(page, "#wb-home-use").text
            assert (await read_lease(hub_env, "alice"))["home_size_bytes"] == 4 * 1024**3
            assert (await start(hub_env, "alice", {"gpus": 0}))[0] == 201


class TestStartRate:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return Settings(ledger_url=settings.ledger_url, starts_per_hour=60)

    async def test_a_start_stop_loop_of_one_user_is_refused(self, hub_env: HubEnvironment) -> None:
        hub_env.be_brisk()
        statuses = []
        for _ in range(11):
            statuses.append((await start(hub_env, "alice", {"gpus": 0}))[0])
            if statuses[-1] == 201:
                await stop(hub_env, "alice")
        assert statuses == [201] * 10 + [429]
        assert (await start(hub_env, "bob", {"gpus": 0}))[0] == 201
