"""Password reset: an admin makes a link, and the user chooses a password with it once."""

import json
import time
from collections.abc import Callable

import httpx
import pytest
from nativeauthenticator.orm import UserInfo

from tests.hub.accounts import join, sign_up
from tests.hub.hub_env import PASSWORD, HubEnvironment, log_in, xsrf_of
from tests.hub.pages import one, parse
from tests.hub.shell import Shell

NEW = "another long password"


async def make_link(hub_env: HubEnvironment, name: str) -> str:
    async with hub_env.client("root", is_admin=True) as root:
        answer = await root.post(f"/hub/api/workbench/people/{name}/password-link")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["path"])


async def choose(
    browser: httpx.AsyncClient, link: str, password: str = NEW, again: str | None = None
) -> httpx.Response:
    page = await browser.get(link)
    form = {
        "token": httpx.URL(link).params["token"],
        "new_password": password,
        "new_password_confirmation": password if again is None else again,
        "_xsrf": xsrf_of(page.text),
    }
    return await browser.post("/hub/reset-password", data=form)


async def test_a_link_sets_a_password_once_and_ends_sessions(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser, hub_env.browser() as forgetful:
        await join(hub_env, browser, "alice")
        link = await make_link(hub_env, "alice")
        wrong = await choose(forgetful, link, "short")
        assert wrong.status_code == 400
        assert "at least 8 characters" in one(parse(wrong.text), "#new_password_hint").text
        assert "differ" in (await choose(forgetful, link, NEW, "other")).text
        assert "is changed" in (await choose(forgetful, link)).text
        assert (await browser.get("/hub/home")).status_code == 302, "the old session ended"
        used = await forgetful.get(link)
        assert used.status_code == 410
        assert "This link was used" in used.text
        assert (await log_in(forgetful, "alice")).status_code == 403
        assert (await log_in(forgetful, "alice", NEW)).status_code == 302


async def test_a_link_approves_no_account(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await sign_up(browser, "alice")
        await choose(browser, await make_link(hub_env, "alice"))
        refused = await log_in(browser, "alice", NEW)
    assert refused.status_code == 403
    assert "An admin has not approved your account yet" in refused.text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda link: link[:-3] + "abc",
        lambda _: "/hub/reset-password",
        lambda _: "/hub/reset-password?token=%ff",
    ],
    ids=["changed", "without a token", "no text"],
)
async def test_a_forged_link_is_worth_nothing(
    hub_env: HubEnvironment, spoil: Callable[[str], str]
) -> None:
    async with hub_env.browser() as browser:
        await sign_up(browser, "alice")
        page = await browser.get(spoil(await make_link(hub_env, "alice")))
    assert page.status_code in (400, 410)
    assert "new_password" not in page.text


async def test_a_link_ends_after_a_day(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hub_env.browser() as browser:
        await sign_up(browser, "alice")
        link = await make_link(hub_env, "alice")
        now = time.time()
        monkeypatch.setattr("tornado.web.time.time", lambda: now + 25 * 3600)
        assert (await browser.get(link)).status_code == 410


async def test_only_an_admin_makes_a_link(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await sign_up(browser, "bob")
    async with hub_env.client("alice") as alice:
        refused = await alice.post("/hub/api/workbench/people/bob/password-link")
    assert refused.status_code == 403
    async with hub_env.client("root", is_admin=True) as root:
        unknown = await root.post("/hub/api/workbench/people/nemo/password-link")
    assert unknown.status_code == 404


async def test_the_command_line_prints_a_link(hub_env: HubEnvironment, shell: Shell) -> None:
    async with hub_env.browser() as browser:
        await sign_up(browser, "alice")
        assert await shell.run("user", "reset-password", "alice") == 0
        link = shell.out.split()[0]
        assert link.startswith("/hub/reset-password?token=")
        assert "Send it to alice alone" in shell.out
        assert "is changed" in (await choose(browser, link)).text
    assert await shell.run("user", "reset-password", "alice", "--json") == 0
    assert json.loads(shell.out)["url"] is None
    assert await shell.run("user", "reset-password", "nemo") == 1
    assert hub_env.hub.db.query(UserInfo).filter_by(username="nemo").count() == 0
    assert PASSWORD not in shell.out
