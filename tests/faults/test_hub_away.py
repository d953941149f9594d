"""While the hub restarts, the proxy answers for it, and open pages come back by themselves."""

import httpx
from playwright.async_api import Page, expect

from testing.paths import ROOT
from testing.people import URL
from testing.process_stack import ProcessStack
from tests.attacks.hostile_pages import chromium, log_in

AWAY = "The workbench restarts"
SENTENCE = "The hub restarts; try again in a moment."
RECOVERY_MS = 40_000


async def test_pages_come_back_by_themselves_and_no_turn_is_missed(one_gpu: ProcessStack) -> None:
    stack = one_gpu
    alice = await stack.running("alice")
    async with chromium() as browser:
        waiting = await log_in(await browser.new_context(), "bob")
        await waiting.goto(f"{URL}/hub/spawn")
        await waiting.locator("input[name=gpus][value='1']").check(force=True)
        await waiting.locator("form#spawn_form [type=submit]").click()
        await expect(waiting.locator("#wb-position")).to_have_text("1")
        late = await waiting.context.new_page()
        home = await waiting.context.new_page()

        stack.kill("hub")
        await home.goto(f"{URL}/hub/home#mine")
        await expect(home.get_by_role("heading", name=AWAY)).to_be_visible()
        await late.goto(waiting.url)
        await expect(late.get_by_role("heading", name=AWAY)).to_be_visible()
        await expect(waiting.locator("#wb-lost")).to_be_visible()
        await shoot(home)
        await require_json()

        stack.start_hub()
        for page in (waiting, late):
            await expect(page.locator("#wb-position")).to_have_text("1", timeout=RECOVERY_MS)
        await expect(home.get_by_role("heading", name="Your server")).to_be_visible()
        await expect(waiting.locator("#wb-lost")).to_be_hidden()
        await alice.stop()
        # the fake server answers with its user's name
        await expect(waiting.locator("body")).to_contain_text('"user": "bob"', timeout=RECOVERY_MS)


async def require_json() -> None:
    async with httpx.AsyncClient(base_url=URL) as client:
        for path in ("/hub/api/workbench/health", "/hub/home", "/user/zoe/api/status"):
            answer = await client.get(path)
            assert answer.status_code == 503
            assert answer.json() == {"status": 503, "message": SENTENCE}
            assert answer.headers["Retry-After"] == "5"


async def shoot(page: Page) -> None:
    folder = ROOT / "artifacts/screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        for width in (1280, 390):
            await page.set_viewport_size({"width": width, "height": 800})
            await page.screenshot(path=folder / f"hub-away-{scheme}-{width}.png")
