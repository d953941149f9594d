"""Every page of the hub works under its Content-Security-Policy."""

from pathlib import Path

from playwright.async_api import ConsoleMessage, Page

from spawner.hub.first_admin import create_admin
from testing.people import URL
from testing.process_stack import ProcessStack
from tests.attacks.hostile_pages import chromium

PASSWORD = "a-password-of-the-admin"
STRANGERS_PAGES = ("login", "signup", "nowhere")
PAGES = (
    "home", "spawn", "token", "admin", "gpus", "queue", "quotas", "usage", "audit", "help", "people",
    "change-password", "change-password/alice", "confirm", "nowhere", "user/alice/", "user/admin/",
)  # fmt: skip
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
}


async def visit(page: Page, path: str) -> None:
    """Open a page of the hub; it has its headers."""
    answer = await page.goto(f"{URL}/hub/{path}", wait_until="networkidle")
    assert answer is not None
    headers = answer.headers
    assert {name: headers.get(name) for name in HEADERS} == HEADERS, path
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "'unsafe-inline'" not in headers["content-security-policy"].split("style-src")[0]
    assert not {"server", "x-jupyterhub-version"} & set(headers), path


async def test_every_page_works_under_its_policy(tmp_path: Path) -> None:
    problems: list[str] = []
    where = ["start"]

    def note(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            problems.append(f"{where[0]}: {message.text}")

    async with (
        ProcessStack(tmp_path, gpus=1, AUTHENTICATOR="native") as stack,
        chromium() as browser,
    ):
        create_admin(f"sqlite:///{stack.folder}/data/jupyterhub.sqlite", "admin", PASSWORD)
        page = await (await browser.new_context()).new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: problems.append(f"{where[0]}: {error}"))
        for path in STRANGERS_PAGES:
            where[0] = path
            await visit(page, path)
        await page.goto(f"{URL}/hub/login?next=/hub/home")
        await page.fill("#username_input", "admin")
        await page.fill("#password_input", PASSWORD)
        await page.click("#login_submit")
        await page.wait_for_url("**/hub/home")
        for path in PAGES:
            where[0] = path
            await visit(page, path)
        where[0] = "a pending spawn"
        stack.network.mute.update(f"workbench-admin-{n}" for n in range(3))
        await page.goto(f"{URL}/hub/spawn")
        await page.click("form#spawn_form [type=submit]")
        await page.wait_for_url("**/user/admin/**")
        for path in ("home", "gpus"):
            where[0] = f"{path} with a server"
            await visit(page, path)
    assert problems == []
