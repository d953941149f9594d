"""A page of one user's server attacks an admin who opens it; both servers and hub are of one origin."""

from collections.abc import Collection
from pathlib import Path

import pytest
from playwright.async_api import Page

from testing.people import URL
from tests.attacks.hostile_pages import (
    ISOLATED,
    PLANTED,
    SCRIPTS,
    attack,
    chromium,
    hostile_stack,
    log_in,
)


async def succeeding(page: Page) -> set[str]:
    """Return the attacks that succeed in the browser of ``page``."""
    found = {name for name, script in SCRIPTS.items() if await attack(page, script)}
    if await attack(page, SCRIPTS["window"], "isolated"):
        found.add(ISOLATED)
    cookies = await page.context.cookies()
    return found | {"planted cookie"} if PLANTED in {c["name"] for c in cookies} else found


PROXY_ATTACKS = {"service worker", "planted cookie"}


# JupyterHub itself forbids frames; a window with another opener policy than the hub's pages is out of reach
@pytest.mark.parametrize(
    ("weak", "expected"),
    [
        ({"proxy", "hub"}, {*SCRIPTS, "planted cookie"} - {"frame"}),
        ({"proxy"}, {*PROXY_ATTACKS, ISOLATED}),
        ((), set()),
    ],
    ids=["control", "control of the proxy", "default"],
)
async def test_a_page_of_a_user_attacks_an_admin(
    tmp_path: Path, weak: Collection[str], expected: set[str]
) -> None:
    async with hostile_stack(tmp_path, weak), chromium() as browser:
        page = await log_in(await browser.new_context())
        assert await succeeding(page) == expected


MAKE_TOKEN = """async () => {
    const answer = await fetch("/hub/api/users/admin/tokens", {
        method: "POST", body: "{}",
        headers: {"Content-Type": "application/json", "X-XSRFToken": window.jhdata.xsrf_token}});
    return [answer.status, answer.headers.get("X-Workbench-Confirm")];
}"""


async def test_an_order_needs_the_password_and_no_more_than_that(tmp_path: Path) -> None:
    async with hostile_stack(tmp_path), chromium() as browser:
        context = await browser.new_context()
        page = await log_in(context)
        assert await page.evaluate(MAKE_TOKEN) == [201, None]
        await context.clear_cookies(name="workbench-confirmed")
        assert await page.evaluate(MAKE_TOKEN) == [403, "/hub/confirm"]
        await page.goto(f"{URL}/hub/token")
        assert page.url == f"{URL}/hub/confirm?next=%2Fhub%2Ftoken"
        await page.fill("#wb-password", "a guess")
        await page.click("text=Confirm >> nth=-1")
        await page.wait_for_selector("text=is not correct")
        assert await page.evaluate(MAKE_TOKEN) == [403, "/hub/confirm"]
        await page.fill("#wb-password", "any")
        await page.click("text=Confirm >> nth=-1")
        await page.wait_for_url(f"{URL}/hub/token")
        assert await page.evaluate(MAKE_TOKEN) == [201, None]
