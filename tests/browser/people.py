"""The people of a story, each in a Chromium of their own, and what they do again and again."""

import re
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page

from testing.stack import PASSWORD, Stack

SECONDS = 1000
SEES = "import nvitop; print(*[d.uuid() for d in nvitop.Device.all()])"


class People:
    """Everyone in the story, each with a browser of their own."""

    def __init__(self, browser: Browser, stack: Stack, folder: Path) -> None:
        self.browser = browser
        self.stack = stack
        self.folder = folder
        self.contexts: dict[str, BrowserContext] = {}

    def page(self, name: str) -> Page:
        """Return this person's browser tab."""
        if name not in self.contexts:
            context = self.browser.new_context(
                base_url=self.stack.url, viewport={"width": 1280, "height": 800}
            )
            context.set_default_timeout(30 * SECONDS)
            context.new_page()
            self.contexts[name] = context
        return self.contexts[name].pages[0]

    def shoot(self, name: str, title: str) -> None:
        """Keep a screenshot as ``<title>.png``."""
        self.page(name).screenshot(path=self.folder / f"{title}.png")

    def log_in(self, name: str, password: str = PASSWORD) -> Page:
        page = self.page(name)
        page.goto(f"{self.stack.url}/hub/login")
        page.get_by_label(re.compile("username", re.IGNORECASE)).fill(name)
        page.locator("#password_input").fill(password)
        page.locator("#login_submit").click()
        return page

    def sign_up(self, name: str) -> Page:
        page = self.page(name)
        page.goto(f"{self.stack.url}/hub/signup")
        page.locator("#username_input").fill(name)
        page.locator("[name=signup_password]").fill(PASSWORD)
        page.locator("[name=signup_password_confirmation]").fill(PASSWORD)
        page.locator("#signup_submit").click()
        return page

    def join(self, name: str) -> Page:
        """Sign up and be approved: the page that waits opens the workbench."""
        page = self.sign_up(name)
        page.wait_for_url("**/hub/signup/waiting")
        self.approve(name)
        page.wait_for_url(lambda url: "/hub/signup" not in url)
        return page

    def approve(self, name: str) -> None:
        """Press the admin's button in this person's row."""
        page = self.page("admin")
        page.goto(f"{self.stack.url}/hub/people")
        page.locator(f"#person-{name}").get_by_role("button", name="Approve").click()
        page.wait_for_load_state()

    def start(self, name: str, gpus: int) -> Page:
        """Choose ``gpus`` in the spawn form and press Start."""
        page = self.page(name)
        page.goto(f"{self.stack.url}/hub/spawn")
        page.locator(f"input[name=gpus][value='{gpus}']").check(force=True)
        page.locator("form#spawn_form [type=submit]").click()
        return page


def wait_for_lab(page: Page) -> None:
    page.wait_for_url(re.compile(r"/user/[^/]+/lab"), timeout=90 * SECONDS)
    page.locator("#jp-main-dock-panel").wait_for(timeout=60 * SECONDS)


def choose_theme(page: Page, name: str) -> None:
    page.get_by_role("menuitem", name="Settings", exact=True).click()
    page.locator(".lm-Menu-itemLabel", has_text="Theme").first.click()
    page.locator(".lm-Menu-itemLabel", has_text=f"JupyterLab {name}").last.click()
    page.locator(f"body[data-jp-theme-light={'false' if name == 'Dark' else 'true'}]").wait_for(
        state="attached"
    )
    page.wait_for_timeout(1500)
