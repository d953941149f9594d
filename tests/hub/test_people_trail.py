"""The people half of the audit trail: groups by every way, failed log-ins in bulk, and the page in words."""

from typing import Any

import pytest

from spawner.hub.failed_log_ins import MANY, MAX_NAMES, QUIET_SECONDS, FailedLogIns
from spawner.hub.servers.group_allowance import is_allowed_without
from spawner.ledger.trail import TrailAction
from testing.eventually import eventually
from tests.hub.accounts import admin, press, sign_up
from tests.hub.credentials import is_token_valid
from tests.hub.hub_env import HubEnvironment, log_in
from tests.hub.pages import one, parse, words
from tests.hub.people import make_group
from tests.hub.servers import start


def entries(hub_env: HubEnvironment, *actions: TrailAction) -> list[tuple[str, Any, Any]]:
    """Return subject and both sides of the entries with ``actions``, the oldest first."""
    found = [stored.entry for stored in reversed(hub_env.ledger.trail())]
    return [(e.subject, e.before, e.after) for e in found if e.action in actions]


async def test_groups_by_jupyterhub_s_own_routes_are_recorded(hub_env: HubEnvironment) -> None:
    for name in ("alice", "bob"):
        hub_env.user(name)
    async with hub_env.client("root", is_admin=True) as root, hub_env.client("bob") as bob:
        groups = "/hub/api/groups"
        alice = {"users": ["alice"]}
        assert (await root.post(groups, json={"groups": ["audio", "chess"]})).status_code == 201
        assert (await root.post(f"{groups}/vision", json=alice)).status_code == 201
        assert (await root.post(f"{groups}/audio/users", json=alice)).status_code == 200
        assert (await root.post(f"{groups}/audio/users", json=alice)).status_code == 200
        for names in (["zoe"], ["alice", "zoe"], "alice", None):
            wrong = await root.post(f"{groups}/chess/users", json={"users": names})
            assert wrong.status_code in (400, 500)
        assert (await bob.post(f"{groups}/chess/users", json=alice)).status_code == 403
        remove = await root.request("DELETE", f"{groups}/audio/users", json=alice)
        assert remove.status_code == 200
        assert (await root.delete(f"{groups}/vision")).status_code == 204
    assert entries(hub_env, TrailAction.USER_GROUPS_CHANGED) == [
        ("user alice", {"groups": ["vision"]}, {"groups": ["audio", "vision"]}),
        ("user alice", {"groups": ["audio", "vision"]}, {"groups": ["vision"]}),
    ]
    assert entries(hub_env, TrailAction.GROUP_CREATED, TrailAction.GROUP_DELETED) == [
        ("group audio", None, {"members": []}),
        ("group chess", None, {"members": []}),
        ("group vision", None, {"members": ["alice"]}),
        ("group vision", {"members": ["alice"]}, None),
    ]


@pytest.mark.parametrize("way", ["page", "members", "group"])
async def test_the_group_that_let_a_user_in_takes_everything_along(
    hub_env: HubEnvironment, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_group(hub_env, "vision", "alice", "bob")
    make_group(hub_env, "chess", "alice")
    tokens = {name: hub_env.user(name).new_api_token(note="laptop") for name in ("alice", "bob")}
    await start(hub_env, "alice", {"gpus": 1})
    async with admin(hub_env) as approver, hub_env.client("root", is_admin=True) as root:
        authenticator = hub_env.hub.authenticator
        monkeypatch.setattr(authenticator, "allow_all", False)
        monkeypatch.setattr(type(authenticator), "allowed_groups", {"vision"}, raising=False)
        assert (await press(approver, "groups", "alice", group="vision")).status_code == 302
        assert await is_token_valid(hub_env, tokens["alice"]), (
            "the group chess does not let a user in"
        )
        if way == "page":
            await press(approver, "groups", "alice", group="chess")
        elif way == "members":
            body = {"users": ["alice"]}
            await root.request("DELETE", "/hub/api/groups/vision/users", json=body)
        else:
            await root.delete("/hub/api/groups/vision")
    await eventually(lambda: not hub_env.live(), "the server ends")
    assert not await is_token_valid(hub_env, tokens["alice"])
    assert await is_token_valid(hub_env, tokens["bob"]) is (way != "group")


async def test_another_rule_keeps_a_user(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticator, alice = hub_env.hub.authenticator, hub_env.user("alice")
    assert is_allowed_without(authenticator, alice, {"vision"}), "no group lets anyone in"
    monkeypatch.setattr(type(authenticator), "allowed_groups", {"vision"}, raising=False)
    assert is_allowed_without(authenticator, alice, {"vision"}), "everyone is allowed"
    monkeypatch.setattr(authenticator, "allow_all", False)
    assert not is_allowed_without(authenticator, alice, {"vision"})
    monkeypatch.setattr(authenticator, "allowed_users", {"alice"})
    assert is_allowed_without(authenticator, alice, {"vision"})


async def test_many_failed_log_ins_are_one_entry_without_typed_names(
    hub_env: HubEnvironment,
) -> None:
    hub_env.user("alice")
    async with hub_env.browser() as guesser:
        for i in range(MANY + 3):
            await log_in(guesser, "alice" if i % 2 else f"my-secret-{i}", "wrong")
    ((_, _, counted),) = entries(hub_env, TrailAction.LOG_INS_FAILED)
    assert counted == {"failed_log_ins": MANY, "accounts": ["alice"]}


def test_failures_are_counted_until_the_next_entry() -> None:
    failures = FailedLogIns()
    assert [failures.add(None, i * 100.0) for i in range(MANY)] == [None] * MANY, "slow ones"
    at = 2000.0
    counted = [failures.add(f"user{i}", at + i) for i in range(MANY)]
    assert counted[:-1] == [None] * (MANY - 1)
    assert counted[-1] is not None
    assert counted[-1]["failed_log_ins"] == 2 * MANY
    assert len(counted[-1]["accounts"]) == MAX_NAMES
    assert failures.add(None, at + MANY) is None
    later = [failures.add(None, at + QUIET_SECONDS + 20 + i) for i in range(MANY)]
    assert later[-1] == {"failed_log_ins": MANY + 1, "accounts": []}


async def test_the_page_has_words_for_every_action(hub_env: HubEnvironment) -> None:
    async with admin(hub_env) as approver:
        await sign_up(hub_env.browser(), "zoe")
        await press(approver, "approve", "zoe", reason="of the vision group")
        await press(approver, "unapprove", "zoe")
        page = parse((await approver.get("/hub/audit?subject=user+zoe")).text)
        found = parse((await approver.get("/hub/audit?action=user.unapproved")).text)
    newest, older = page.select(".wb-trail > li")
    assert "admin approved zoe · of the vision group" in words(older)
    assert "admin withdrew the approval of zoe" in words(newest)
    assert len(found.select(".wb-trail > li")) == 1
    visible = words(one(page, "main"))
    assert not [action for action in TrailAction if action.value in visible]
