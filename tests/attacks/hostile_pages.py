"""Hostile pages: what a user's own server answers to a visitor, and a browser that visits it as an admin.

``SCRIPTS`` are attacks by a page of ``mallory``; each returns true where it succeeds.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from testing.people import URL
from testing.process_stack import ProcessStack
from tests.browser.conftest import CHROMIUM, FLAGS

ADMIN = "admin"
PLANTED = "planted"

_STEAL_TOKEN = """
    const make = async (page) => {
      const xsrf = page && page.match(/xsrf_token: "([^"]+)"/);
      if (!xsrf) return false;
      const answer = await fetch(`/hub/api/users/admin/tokens?_xsrf=${encodeURIComponent(xsrf[1])}`, {
        method: "POST", headers: {"Content-Type": "application/json"}, body: "{}"});
      return answer.status === 201;
    };
    const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
    const text = (found) => found.document.documentElement.innerHTML;
"""
SCRIPTS = {
    "service worker": """
        await navigator.serviceWorker.register("sw.js", {scope: "/"});
        return true;
    """,
    "fetch": _STEAL_TOKEN + 'return make(await (await fetch("/hub/home")).text());',
    "fetch without cors": _STEAL_TOKEN
    + 'return make(await (await fetch("/hub/home", {mode: "no-cors"})).text());',
    "refused form": _STEAL_TOKEN
    + 'return make(await (await fetch("/hub/token", {method: "POST"})).text());',
    "window": _STEAL_TOKEN
    + 'const opened = window.open("/hub/home"); await wait(4); return make(text(opened));',
    "frame": _STEAL_TOKEN
    + """
        const frame = document.createElement("iframe");
        frame.src = "/hub/home";
        document.body.append(frame);
        await wait(4);
        return make(text(frame.contentWindow));
    """,
}
"""Scripts of a page of mallory's server, in the browser of an admin who has just logged in."""
ISOLATED = "window of an isolated page"
"""The attack by a window, from a page with the hub's own opener policy."""


async def answer_hostile(request: web.BaseRequest) -> web.StreamResponse:
    """Answer as mallory's server: with headers for the whole origin."""
    headers = {"Service-Worker-Allowed": "/"}
    if request.path.endswith("/isolated"):
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
    kind = "text/javascript" if request.path.endswith(".js") else "text/html"
    answer = web.Response(
        text="" if kind == "text/javascript" else "<!doctype html><body>hello",
        content_type=kind,
        headers=headers,
    )
    answer.headers["Set-Cookie"] = f"{PLANTED}=1; Path=/hub/"
    return answer


@asynccontextmanager
async def hostile_stack(
    folder: Path, weak: Collection[str] = (), **settings: str
) -> AsyncIterator[ProcessStack]:
    """Run a process stack in which mallory's server answers with hostile pages."""
    async with ProcessStack(folder, gpus=1, weak=weak, **settings) as stack:
        stack.network.pages["mallory"] = answer_hostile
        server = {"gpus": 0}
        assert (await stack.admin.post("users/mallory")).is_success
        assert (await stack.admin.post("users/mallory/server", json=server)).is_success
        yield stack


@asynccontextmanager
async def chromium(*flags: str) -> AsyncIterator[Browser]:
    """Start Chromium in the network of the process stack."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        try:
            yield browser
        finally:
            await browser.close()


async def log_in(context: BrowserContext, name: str = ADMIN, url: str = URL) -> Page:
    """Return a page of a person who has just logged in."""
    page = await context.new_page()
    await page.goto(f"{url}/hub/login?next=/hub/home")
    await page.fill("#username_input", name)
    await page.fill("#password_input", "any")
    await page.click("#login_submit")
    await page.wait_for_url("**/hub/home")
    return page


async def attack(page: Page, script: str, path: str = "evil", url: str = URL) -> bool:
    """Return whether ``script`` succeeds in a page of mallory's server."""
    await page.goto(f"{url}/user/mallory/{path}")
    run = f"async () => {{ try {{ {script} }} catch (error) {{ return false; }} }}"
    return bool(await page.evaluate(run))
