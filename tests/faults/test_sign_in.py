"""Sign-in at a real OpenID provider, in Chromium: who gets in, who stays in, and what a silent provider changes.

One workbench and one provider; each access token lives for two seconds, and the hub asks about a user each second.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from playwright.async_api import Browser, Page

from spawner.hub.handlers.provider_handlers import NOT_LET_IN
from spawner.hub.handlers.provider_sign_in import ACTOR
from spawner.ledger.trail import TrailAction
from spawner.model import LeaseState
from testing.eventually import eventually
from testing.paths import ROOT
from testing.people import URL
from testing.process_stack import ProcessStack
from tests.attacks.hostile_pages import chromium
from tests.faults.conftest import audited

SECRET = "client-secret-of-a-test"
PORT = 9100
ISSUER = f"http://localhost:{PORT}"
TOKEN_SECONDS = 2
SET_QUOTA = """async (maximum) => {
    const answer = await fetch("/hub/api/workbench/quotas/groups/lab", {
        method: "PUT", body: JSON.stringify({max_gpus: maximum, reason: "a test"}),
        headers: {"Content-Type": "application/json", "X-XSRFToken": window.jhdata.xsrf_token}});
    return answer.status;
}"""
START = """async (gpus) => {
    const answer = await fetch(`/hub/api/users/bob/server`, {
        method: "POST", body: JSON.stringify({gpus}),
        headers: {"Content-Type": "application/json", "X-XSRFToken": window.jhdata.xsrf_token}});
    return [answer.status, await answer.text()];
}"""
READ_AT_ONCE = """async (token) => {
    // without the cache, in which requests of one address wait for each other
    const read = () => fetch("/hub/api/user", {cache: "no-store", headers: {"X-XSRFToken": token}});
    return (await Promise.all(Array.from({length: 6}, read))).map((answer) => answer.status);
}"""


class Accounts:
    """The accounts of the provider, by name, with their groups."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.groups: dict[str, list[str]] = {
            "ada": [],
            "bob": ["lab", "night"],
            "carol": ["chiefs"],
            "eve": ["strangers"],
        }
        self.set()

    def set(self, **groups: list[str]) -> None:
        """Let these accounts be in other groups from now on."""
        self.groups.update(groups)
        self.file.write_text(
            json.dumps({name: {"groups": groups} for name, groups in self.groups.items()})
        )


@asynccontextmanager
async def openid_stack(folder: Path) -> AsyncIterator[tuple[ProcessStack, Accounts]]:
    """Run a process stack and the provider at which its users log in."""
    accounts = Accounts(folder / "accounts.json")
    secrets = {
        "OAUTH_CLIENT_SECRET": SECRET,
        "JUPYTERHUB_CRYPT_KEY": "ab" * 32,
        "STACK_REFRESH_SECONDS": "1",
    }
    settings = {
        "AUTHENTICATOR": "generic-oauth",
        "ADMIN": "ada",
        "OAUTH_ISSUER": ISSUER,
        "OAUTH_CLIENT_ID": "workbench",
        "OAUTH_CLIENT_SECRET_FILE": "/root/client-secret",
        "OAUTH_ALLOWED_GROUPS": "lab",
        "OAUTH_ADMIN_GROUPS": "chiefs",
        "OAUTH_SCOPES": "openid profile email offline_access",
    }
    made = ProcessStack(folder, gpus=2, **settings)
    made.environment.update(secrets)
    async with audited(made) as stack:
        start_provider(stack, accounts)
        await until_provider_answers()
        yield stack, accounts


def start_provider(stack: ProcessStack, accounts: Accounts) -> None:
    program = str(ROOT / "testing/openid_provider/provider.mjs")
    stack.start("provider", "node", program, str(PORT), str(accounts.file), SECRET, URL)


async def until_provider_answers() -> None:
    async def answers() -> bool:
        async with httpx.AsyncClient() as client:
            found = await client.get(f"{ISSUER}/.well-known/openid-configuration")
        return found.is_success

    await eventually(answers, "the provider answers")


async def give_password(page: Page, name: str) -> None:
    await page.fill("[name=login]", name)
    await page.fill("[name=password]", "any")
    await page.click("[type=submit]")


async def log_in(browser: Browser, name: str) -> Page:
    """Return a page of a person who gave a password at the provider; it is any page of the hub."""
    page = await (await browser.new_context()).new_page()
    page.set_default_timeout(15_000)
    await page.goto(f"{URL}/hub/login?next=/hub/home")
    await page.click("text=Sign in with single sign-on")
    await give_password(page, name)
    await page.wait_for_url(f"{URL}/hub/**")
    return page


async def model(stack: ProcessStack, name: str) -> dict[str, object]:
    found: dict[str, object] = (await stack.admin.get(f"users/{name}")).raise_for_status().json()
    return found


async def test_a_day_at_an_openid_provider(tmp_path: Path) -> None:
    async with openid_stack(tmp_path) as (stack, accounts), chromium() as browser:
        eve = await log_in(browser, "eve")
        assert NOT_LET_IN in await eve.inner_text("main, body")
        assert (await stack.admin.get("users/eve")).status_code == 404

        ada = await log_in(browser, "ada")
        await confirm_orders_at_the_provider(ada)

        bob = await log_in(browser, "bob")
        assert (await model(stack, "bob"))["groups"] == ["lab", "night"]
        assert (await model(stack, "bob"))["admin"] is False
        status, said = await bob.evaluate(START, 2)
        assert status == 409, said
        assert "1" in said
        assert (await bob.evaluate(START, 1))[0] in (201, 202)

        await be_refreshed_with_one_token_at_a_time(bob)
        await lose_the_rights_of_an_admin(stack, accounts, await log_in(browser, "carol"))
        await log_out_of_both(await log_in(browser, "bob"))
        await go_on_while_the_provider_is_away(stack, accounts, bob)
        await lose_the_group(stack, accounts, bob)


# --- chapters


async def confirm_orders_at_the_provider(ada: Page) -> None:
    """An admin's order needs a password that was given just now; a log-in that asks for none is not enough."""
    assert await ada.evaluate(SET_QUOTA, 1) == 403
    await ada.goto(f"{URL}/hub/oauth_login?next=/hub/home")
    await ada.wait_for_url(f"{URL}/hub/home")
    assert await ada.evaluate(SET_QUOTA, 1) == 403, "the provider asked for nothing"
    await ada.goto(f"{URL}/hub/token")
    await ada.click("#wb-confirm-at-provider")
    await give_password(ada, "ada")
    await ada.wait_for_url(f"{URL}/hub/token")
    assert await ada.evaluate(SET_QUOTA, 1) in (200, 201)


async def read_at_once(page: Page) -> list[int]:
    """Return the answers to six requests at the same moment, with an access token that has expired."""
    token = await page.evaluate("window.jhdata.xsrf_token")
    await page.goto(f"{URL}/hub/health")  # it asks the hub for nothing more, and names no user
    await asyncio.sleep(TOKEN_SECONDS + 0.5)
    answers: list[int] = await page.evaluate(READ_AT_ONCE, token)
    await page.goto(f"{URL}/hub/home")
    return answers


async def be_refreshed_with_one_token_at_a_time(bob: Page) -> None:
    """The provider takes each refresh token once, and ends the session of one that comes again."""
    for _ in range(2):
        assert await read_at_once(bob) == [200] * 6


async def lose_the_rights_of_an_admin(stack: ProcessStack, accounts: Accounts, carol: Page) -> None:
    assert (await model(stack, "carol"))["admin"] is True
    accounts.set(carol=["lab"])
    await asyncio.sleep(1.1)
    await carol.goto(f"{URL}/hub/home")
    assert (await model(stack, "carol"))["admin"] is False
    assert (await model(stack, "carol"))["groups"] == ["lab"]
    with stack.ledger() as ledger:
        entries = [stored.entry for stored in ledger.trail()]
    changed = {e.action for e in entries if (e.actor, e.subject) == (ACTOR, "user carol")}
    assert changed == {TrailAction.USER_ADMIN_CHANGED, TrailAction.USER_GROUPS_CHANGED}


async def log_out_of_both(page: Page) -> None:
    """After a log-out here the provider asks for the password again."""
    await page.goto(f"{URL}/hub/logout")
    await page.wait_for_url(f"{ISSUER}/**")
    await page.click("button[value=yes]")
    await page.wait_for_url(f"{URL}/hub/login**")
    await page.click("text=Sign in with single sign-on")
    await page.wait_for_selector("[name=password]")


async def go_on_while_the_provider_is_away(
    stack: ProcessStack, accounts: Accounts, bob: Page
) -> None:
    stack.kill("provider")
    await asyncio.sleep(1.1)
    await bob.goto(f"{URL}/hub/home")
    assert await bob.inner_text("h1") != "Sign in"
    assert await read_at_once(bob) == [200] * 6
    assert stack.lease("bob").state is LeaseState.RUNNING
    async with httpx.AsyncClient() as stranger:
        refused = await stranger.get(f"{URL}/hub/oauth_login")
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    assert (
        f"The log-in provider {ISSUER} does not answer, and running servers go on" in refused.text
    )
    start_provider(stack, accounts)
    await until_provider_answers()
    # the new provider knows no token of the old one: the session is over, and the server goes on
    await asyncio.sleep(1.1)
    await bob.goto(f"{URL}/hub/home")
    assert "/hub/login" in bob.url
    assert stack.lease("bob").state is LeaseState.RUNNING
    await bob.click("text=Sign in with single sign-on")
    await give_password(bob, "bob")
    await bob.wait_for_url(f"{URL}/hub/home")


async def lose_the_group(stack: ProcessStack, accounts: Accounts, bob: Page) -> None:
    accounts.set(bob=["night"])
    await asyncio.sleep(1.1)
    await bob.goto(f"{URL}/hub/home")
    assert "/hub/login" in bob.url, "the session is over"

    async def has_ended() -> bool:
        return stack.lease("bob").state is LeaseState.CLOSED

    await eventually(has_ended, "the server of bob has ended")
    assert (await model(stack, "bob"))["groups"] == []
    await bob.click("text=Sign in with single sign-on")
    await bob.wait_for_url(f"{URL}/hub/oauth_callback**")
    assert NOT_LET_IN in await bob.inner_text("body")
