"""Revocation: after each way to take something back, copies of what the user had no longer work."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
from nativeauthenticator.orm import UserInfo

from spawner.hub.first_admin import create_admin
from spawner.ledger.trail import TrailAction
from spawner.model import Cause, LeaseState, Unknown
from spawner.policy.container import LAB_CACHE_SECONDS
from testing.eventually import eventually
from tests.hub.accounts import ADMIN_PASSWORD, admin, database, press
from tests.hub.credentials import (
    EVERYTHING,
    Credentials,
    exchange,
    is_let_in,
    make_credentials,
    post,
    request_code,
)
from tests.hub.hub_env import PASSWORD, HubEnvironment, log_in
from tests.hub.people import make_service
from tests.hub.servers import is_queued, lease_of, queued_users, start, wait_in_queue

ANOTHER = "another-long-password"


@pytest.fixture
async def alice(hub_env: HubEnvironment) -> AsyncIterator[Credentials]:
    async with hub_env.browser() as browser, hub_env.browser() as elsewhere:
        yield await make_credentials(hub_env, browser, elsewhere)


def actions(hub_env: HubEnvironment) -> list[tuple[TrailAction, str, str]]:
    """Return the entries of the trail about alice's account, the oldest first."""
    entries = [stored.entry for stored in reversed(hub_env.ledger.trail())]
    return [(e.action, e.actor, e.subject) for e in entries if e.action.startswith("user.")]


def raise_unknown(*_: object) -> None:
    raise Unknown("The ledger does not answer.")


async def start_of(client: httpx.AsyncClient, name: str = "alice") -> int:
    return (await client.post(f"/hub/api/users/{name}/server", json={"gpus": 0})).status_code


async def test_everything_works_before(alice: Credentials) -> None:
    assert await alice.valid() == EVERYTHING


async def test_without_the_approval_nothing_works(
    hub_env: HubEnvironment, alice: Credentials
) -> None:
    lease = lease_of(hub_env, "alice")
    await hub_env.user("alice").spawner.poll_and_notify()
    async with admin(hub_env) as approver:
        answer = await press(approver, "unapprove", "alice")
        assert answer.status_code == 302
    assert await alice.valid() == set()
    await eventually(lambda: not hub_env.live(), "the server of alice ends")
    ended = hub_env.ledger.lease(lease.id)
    assert ended is not None
    assert (ended.state, ended.cause) == (LeaseState.CLOSED, Cause.ADMIN)
    await eventually(lambda: hub_env.leftovers("alice") == {}, "nothing of the server is left")
    assert "/user/alice/" not in hub_env.hub.proxy.routes
    assert (await log_in(alice.browser, "alice")).status_code == 403
    assert actions(hub_env) == [
        (TrailAction.USER_APPROVED, "admin", "user alice"),
        (TrailAction.USER_UNAPPROVED, "admin", "user alice"),
    ]


async def test_a_user_without_approval_starts_nothing(
    hub_env: HubEnvironment, alice: Credentials
) -> None:
    service = make_service(hub_env, "starter", "servers")
    async with admin(hub_env) as approver:
        await press(approver, "unapprove", "alice")
        await eventually(lambda: not hub_env.live(), "the server of alice ends")
        await eventually(lambda: not hub_env.user("alice").active, "the hub has noticed")
        # a credential that the revocation could not know, and those of others
        forgotten = hub_env.client("alice")
        async with forgotten, service:
            assert [await start_of(forgotten), await start_of(service)] == [403, 403]
        assert hub_env.live() == []
        await press(approver, "approve", "alice")
    assert (await log_in(alice.browser, "alice")).status_code == 302
    assert await start(hub_env, "alice", {"gpus": 0}) == (201, "")


async def test_a_stale_page_approves_no_one_by_taking_back_twice(
    hub_env: HubEnvironment, alice: Credentials
) -> None:
    async with admin(hub_env) as approver:
        for _ in range(2):
            await press(approver, "unapprove", "alice")
    assert (await log_in(alice.browser, "alice")).status_code == 403


async def test_a_place_in_the_queue_ends_with_the_approval(
    hub_env: HubEnvironment, alice: Credentials
) -> None:
    hub_env.be_brisk()
    async with hub_env.client("alice") as client:
        await client.post("/hub/api/users/alice/servers/second", json={"gpus": 2, "hours": 1})
    await eventually(partial(is_queued, hub_env, "alice"), "alice waits")
    async with admin(hub_env) as approver:
        await press(approver, "unapprove", "alice")
    await eventually(lambda: queued_users(hub_env) == [], "alice has left the queue")
    await eventually(lambda: not hub_env.live(), "both leases end")


async def test_a_changed_password_ends_all_but_this_browser(
    hub_env: HubEnvironment, alice: Credentials
) -> None:
    fields = {"old_password": PASSWORD, "new_password": ANOTHER}
    page = "/hub/change-password"
    answer = await post(alice.browser, page, page, **fields, new_password_confirmation=ANOTHER)
    assert "Your password is changed" in answer.text
    assert await alice.valid() == {"browser", "lab", "server"}
    assert lease_of(hub_env, "alice").state is LeaseState.RUNNING
    # the forms of the browser that goes on work too
    assert (await post(alice.browser, page, "/hub/log-out-everywhere")).status_code == 302
    assert await alice.valid() == {"server"}


async def test_a_password_that_is_refused_ends_nothing(alice: Credentials) -> None:
    fields = {"old_password": "wrong", "new_password": ANOTHER}
    page = "/hub/change-password"
    await post(alice.browser, page, page, **fields, new_password_confirmation=ANOTHER)
    assert await alice.valid() == EVERYTHING


async def test_a_password_set_by_an_admin_ends_all_but_the_server(
    hub_env: HubEnvironment, alice: Credentials
) -> None:
    fields = {"new_password": ANOTHER, "new_password_confirmation": ANOTHER}
    async with admin(hub_env) as approver:
        path = "/hub/change-password/alice"
        answer = await post(approver, path, path, **fields)
        assert "is changed" in answer.text
        assert await is_let_in(approver)
    assert await alice.valid() == {"server"}
    assert lease_of(hub_env, "alice").state is LeaseState.RUNNING
    assert actions(hub_env)[-1] == (TrailAction.USER_PASSWORD_SET, "admin", "user alice")


async def test_a_password_is_set_only_with_its_entry_in_the_trail(
    hub_env: HubEnvironment, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"new_password": ANOTHER, "new_password_confirmation": ANOTHER}
    path = "/hub/change-password/alice"
    async with admin(hub_env) as approver:
        with monkeypatch.context() as patch:
            patch.setattr(hub_env.ledger, "record_entry", raise_unknown)
            assert (await post(approver, path, path, **fields)).status_code == 503
        assert await alice.valid() == EVERYTHING
    async with hub_env.browser() as fresh:
        assert (await log_in(fresh, "alice")).status_code == 302


async def test_a_log_out_ends_this_browser_and_its_copies(
    hub_env: HubEnvironment, alice: Credentials
) -> None:
    thief_code = await request_code(alice.browser, "alice")
    cookies = httpx.Cookies(alice.browser.cookies)
    assert (await alice.browser.get("/hub/logout")).status_code == 302
    async with hub_env.browser() as copied:
        copied.cookies = cookies
        alice.browser = copied
        assert await alice.valid() == EVERYTHING - {"browser", "lab"}
    late = await exchange(hub_env, "alice", thief_code, alice.server_token)
    assert not late.is_success
    assert lease_of(hub_env, "alice").state is LeaseState.RUNNING


async def test_a_new_log_in_is_a_new_session(hub_env: HubEnvironment, alice: Credentials) -> None:
    cookies = httpx.Cookies(alice.browser.cookies)
    await alice.browser.get("/hub/logout")
    async with hub_env.browser() as copied:
        copied.cookies = cookies
        assert (await log_in(copied, "alice")).status_code == 302
        assert await is_let_in(copied)


async def test_log_out_everywhere_ends_all_but_the_server(
    hub_env: HubEnvironment, alice: Credentials
) -> None:
    answer = await post(alice.browser, "/hub/change-password", "/hub/log-out-everywhere")
    assert answer.headers["Location"].startswith("/hub/login")
    assert await alice.valid() == {"server"}
    assert lease_of(hub_env, "alice").state is LeaseState.RUNNING
    assert actions(hub_env)[-1] == (TrailAction.USER_LOGGED_OUT, "alice", "user alice")


async def test_an_admin_logs_a_user_out_everywhere(
    hub_env: HubEnvironment, alice: Credentials
) -> None:
    hub_env.be_brisk()
    await start(hub_env, "bob", {"gpus": 1})
    await wait_in_queue(hub_env, "carol")
    async with admin(hub_env) as approver:
        for name in ("alice", "carol"):
            await press(approver, "log-out", name)
    assert await alice.valid() == {"server"}
    await eventually(lambda: queued_users(hub_env) == [], "carol has left the queue")
    assert lease_of(hub_env, "bob").state is LeaseState.RUNNING


async def test_a_user_logs_out_no_other(hub_env: HubEnvironment, alice: Credentials) -> None:
    hub_env.user("bob")
    for name in ("bob", "nobody"):
        path = f"/hub/log-out-everywhere/{name}"
        assert (await post(alice.browser, "/hub/change-password", path)).status_code == 404
    assert (await alice.browser.get("/hub/log-out-everywhere")).status_code == 405


@pytest.mark.parametrize("verb", ["delete", "decline"])
async def test_a_user_who_is_removed_leaves_nothing(
    hub_env: HubEnvironment, alice: Credentials, verb: str
) -> None:
    async with admin(hub_env) as approver:
        if verb == "delete":
            async with hub_env.client("root", is_admin=True) as root:
                assert (await root.delete("/hub/api/users/alice")).status_code == 204
        else:
            await press(approver, "unapprove", "alice")
            assert (await press(approver, "decline", "alice")).status_code == 302
    assert await alice.valid() == set()
    assert hub_env.live() == []
    assert (await log_in(alice.browser, "alice")).status_code == 403
    last = TrailAction.USER_DELETED if verb == "delete" else TrailAction.USER_DISCARDED
    assert actions(hub_env)[-1][0] is last


def test_lab_asks_again_within_a_minute() -> None:
    assert LAB_CACHE_SECONDS <= 60


# --- at least one admin can always log in


async def refusals(hub_env: HubEnvironment, approver: httpx.AsyncClient) -> list[Any]:
    """Try every way to lock out the account ``admin``; return the answers."""
    root = make_service(hub_env, "root", "admin:users", "delete:users", "admin:groups")
    async with root:
        return [
            await press(approver, "unapprove", "admin"),
            await root.delete("/hub/api/users/admin"),
        ]


async def test_the_last_admin_is_not_locked_out(hub_env: HubEnvironment) -> None:
    async with admin(hub_env) as approver:
        for answer in await refusals(hub_env, approver):
            assert answer.status_code == 409, answer.text
            assert "the only admin with a log-in: make another user an admin first" in answer.text
        async with hub_env.client("root", is_admin=True) as root:
            answer = await root.patch("/hub/api/users/admin", json={"admin": False})
            assert answer.status_code == 409
            await press(approver, "decline", "admin")
            assert (await root.delete("/hub/api/users/admin")).status_code == 409
        assert await is_let_in(approver)
    async with hub_env.browser() as browser:
        assert (await log_in(browser, "admin", ADMIN_PASSWORD)).status_code == 302


async def test_the_last_admin_keeps_the_rights_under_another_name(hub_env: HubEnvironment) -> None:
    async with admin(hub_env), hub_env.client("second", is_admin=True) as second:
        for name in ("é\n", "a/b"):
            refused = await second.patch("/hub/api/users/admin", json={"name": name})
            assert refused.status_code == 400, "a name that cannot log in"
        renamed = await second.patch("/hub/api/users/admin", json={"name": "chief"})
        assert renamed.status_code == 200, renamed.text
    async with hub_env.browser() as browser, hub_env.client("second", is_admin=True) as second:
        assert (await log_in(browser, "chief", ADMIN_PASSWORD)).status_code == 302
        assert (await browser.get("/hub/people")).status_code == 200
        demoted = await second.patch("/hub/api/users/chief", json={"admin": False})
        assert demoted.status_code == 409, "second has no account"
        assert (await press(browser, "unapprove", "chief")).status_code == 409


async def test_an_admin_goes_when_another_can_log_in(
    hub_env: HubEnvironment, alice: Credentials
) -> None:
    async with admin(hub_env) as approver:
        hub_env.user("alice").admin = True
        hub_env.hub.db.commit()
        answer = await press(approver, "unapprove", "admin")
        assert answer.status_code == 302
        assert not await is_let_in(approver)


async def test_up_mends_a_workbench_that_no_admin_can_enter(
    hub_env: HubEnvironment, alice: Credentials
) -> None:
    async with admin(hub_env):
        pass
    info = UserInfo.find(hub_env.hub.db, "admin")
    info.is_authorized = False
    hub_env.user("alice").admin = True
    hub_env.hub.db.commit()
    assert not create_admin(database(hub_env), "admin", ANOTHER), "alice can help"
    hub_env.user("alice").admin = False
    hub_env.hub.db.commit()
    assert create_admin(database(hub_env), "admin", ANOTHER)
    async with hub_env.browser() as browser:
        assert (await log_in(browser, "admin", ADMIN_PASSWORD)).status_code == 403
        assert (await log_in(browser, "admin", ANOTHER)).status_code == 302
