"""Every page of the hub: no violation that axe finds, one main element, a title of its own, no sideways scroll.

Each page is loaded once, then shown in both themes and at the widths of a desktop and of a phone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from testing.paths import ROOT
from tests.browser.map_hub import MapHub, running_map_hub

AXE = ROOT / "tests/browser/node_modules/axe-core/axe.min.js"
WIDTHS = (1280, 390)
THEMES = ("light", "dark")
ANYONE = ("login", "signup", "signup/waiting", "reset-password", "nowhere")
USER = (
    *("home", "gpus", "queue", "usage", "quotas", "token", "change-password", "help", "spawn"),
    *("confirm", "audit", "nowhere", "user/mara/second/lab", "error/503"),
)
# without /hub/admin, whose page is JupyterHub's own
ADMIN = (
    *("home", "gpus", "usage", "quotas", "people", "people?search=xyz", "people/mara"),
    *("people/zoe", "audit", "token", "change-password/mara", "spawn-pending/admin"),
    "api/oauth2/authorize?client_id=jupyterhub-user-mara&response_type=code"
    "&redirect_uri=%2Fuser%2Fmara%2Foauth_callback",
)
RUN = """async (rules) => {
  const options = { resultTypes: ["violations"], ...(rules ? { runOnly: rules } : {}) };
  return (await axe.run(document, options)).violations.map(
    (one) => `${one.id}: ${one.nodes.map((node) => node.target.join(" ")).join(", ")}`);
}"""
STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"
SHOW = """(theme) => {
  document.documentElement.dataset.bsTheme = theme;
  document.querySelectorAll("main details").forEach((one) => { one.open = true; });
}"""


@pytest.fixture(scope="module")
def map_hub(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MapHub]:
    with running_map_hub(browser, tmp_path_factory.mktemp("hub"), 4) as map_hub:
        map_hub.execute("start mara 1")
        map_hub.execute("sign-up zoe")
        map_hub.execute("start admin 4")  # waits in the queue
        yield map_hub


@contextmanager
def no_log_in(map_hub: MapHub) -> Iterator[Page]:
    context = map_hub._browser.new_context(base_url=map_hub.url)
    yield context.new_page()
    context.close()


def complaints(page: Page, address: str, shots: Path, who: str) -> list[str]:
    """Return everything that is wrong with one page."""
    page.set_viewport_size({"width": WIDTHS[0], "height": 800})
    page.goto(f"/hub/{address}", wait_until="domcontentloaded")
    page.wait_for_load_state()
    found: list[str] = []
    if page.locator("main").count() != 1:
        found.append(f"{page.locator('main').count()} main elements")
    if page.locator("h1").count() != 1:
        found.append(f"{page.locator('h1').count()} h1 elements")
    if page.title() == "GPU Workbench":
        found.append("no title of its own")
    text = page.locator("main").first.inner_text()
    found += [f"shows {word!r}" for word in (": None", "custom:", "read:users") if word in text]
    # axe reads colours, which must not be half-way between two themes
    page.add_style_tag(content=STILL)
    page.evaluate(AXE.read_text())
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        for theme in THEMES:
            page.evaluate(SHOW, theme)
            # a theme changes colours alone: every other rule needs one theme at each width
            is_whole = (theme == "dark") == (width == WIDTHS[1])
            rules = None if is_whole else ["color-contrast"]
            found += [f"{width} {theme} {one}" for one in page.evaluate(RUN, rules)]
            if is_whole:
                name = address.partition("?")[0].replace("/", "-")
                page.screenshot(
                    path=shots / f"page-{who}-{name}-{width}-{theme}.png", full_page=True
                )
        wide: Any = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if wide > 0:
            found.append(f"{width} scrolls sideways by {wide} pixels")
    return [f"/hub/{address}: {one}" for one in found]


@pytest.mark.parametrize(
    ("who", "addresses"), [("anyone", ANYONE), ("mara", USER), ("admin", ADMIN)]
)
def test_every_page_can_be_used_by_everyone(
    map_hub: MapHub, screenshots: Path, who: str, addresses: tuple[str, ...]
) -> None:
    opened = no_log_in(map_hub) if who == "anyone" else map_hub.page(who)
    with opened as page:
        # the pages of refusals are among them
        found = [
            one for address in addresses for one in complaints(page, address, screenshots, who)
        ]
    assert not found, "\n".join(found)
