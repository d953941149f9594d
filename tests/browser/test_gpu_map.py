"""The GPU page in Chromium: live without a reload, by keyboard alone, with few and many GPUs, in every theme.

And the form that leads to it, whose estimates follow what is asked for.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from testing.paths import ROOT
from tests.browser.map_hub import SECONDS, MapHub, running_map_hub

DURATIONS = json.loads((ROOT / "tests/contract/panel-durations.json").read_text())


@pytest.fixture
def map_hub(browser: Browser, tmp_path: Path) -> Iterator[MapHub]:
    with running_map_hub(browser, tmp_path, 4) as map_hub:
        yield map_hub


def test_it_is_live_and_states_when_it_is_not(map_hub: MapHub, screenshots: Path) -> None:
    with map_hub.page("mara") as page:
        first, second = page.locator(".wb-tile").nth(0), page.locator(".wb-tile").nth(1)
        expect(first).to_contain_text("Free")
        expect(first).to_contain_text("unknown")
        map_hub.execute("read 0 87")
        expect(first).to_contain_text("87 %")
        map_hub.execute("start mara 1")
        expect(first).to_contain_text("In use")
        expect(first).to_contain_text("you")
        expect(page.locator("#wb-sum")).to_contain_text("3 of 4 GPUs free")
        map_hub.execute("start noor 1")
        expect(second).to_contain_text("noor")
        map_hub.execute("start li 3")
        expect(page.locator("#wb-waiters")).to_contain_text("li · 3 GPUs for 2 h")
        page.screenshot(path=screenshots / "gpu-map.png", full_page=True)
        map_hub.execute("silent")
        expect(page.locator("#wb-error")).to_be_visible()
        expect(second).to_contain_text("Unknown")
        map_hub.execute("speaking")
        expect(page.locator("#wb-error")).to_be_hidden()
        page.evaluate("window.isSamePage = true")
        map_hub.execute("restart")
        expect(page.locator("#wb-live")).to_have_text("Reconnecting…", timeout=20 * SECONDS)
        expect(page.locator("#wb-live")).to_have_text("Live", timeout=30 * SECONDS)
        assert page.evaluate("window.isSamePage")


def test_who_requests_less_time_in_the_form_need_not_wait(
    map_hub: MapHub, screenshots: Path
) -> None:
    map_hub.execute("start noor 2")
    map_hub.execute("start li 3")  # in two hours; until then two are free
    with map_hub.page("mara") as page:
        page.goto("/hub/spawn")
        two = page.locator(".wb-choice", has=page.locator("input[value='2']"))
        button, hours = page.locator("#spawn_form [type=submit]"), page.locator("#hours")
        two.locator("input").check(force=True)
        expect(two).to_contain_text("you would wait: position 2")
        expect(button).to_have_text("Wait in line")
        page.screenshot(path=screenshots / "form-waits.png", full_page=True)
        hours.fill("1.5")
        expect(button).to_have_text("Start")
        expect(two.locator("input")).to_be_checked()
        expect(two).not_to_contain_text("wait")
        expect(hours).to_be_focused()
        page.screenshot(path=screenshots / "form-less-time.png", full_page=True)
        hours.fill("3")
        expect(button).to_have_text("Wait in line")


def test_its_script_states_durations_in_the_words_of_the_hub(map_hub: MapHub) -> None:
    with map_hub.page("mara") as page:
        said = page.evaluate("all => all.map(({ seconds }) => wbDuration(seconds))", DURATIONS)
    assert said == [golden["words"] for golden in DURATIONS]


def test_an_admin_orders_everything_by_keyboard(map_hub: MapHub, screenshots: Path) -> None:
    map_hub.execute("start mara 1")
    map_hub.execute("start noor 3")
    map_hub.execute("start li 1")
    map_hub.execute("start amara 1")
    with map_hub.page("admin", color_scheme="dark") as page:
        press = page.keyboard.press
        page.locator(".wb-tile-open").first.focus()
        press("ArrowRight")
        press("Enter")
        details = page.get_by_role("dialog")
        expect(details).to_contain_text("GPU 1")
        expect(details.get_by_role("button", name="Drain")).to_be_focused()
        press("Enter")
        page.keyboard.type("the fan is loud")
        page.screenshot(path=screenshots / "gpu-map-order-dark.png")
        press("Enter")
        expect(page.locator("#wb-said")).to_have_text("GPU 1 is drained.")
        expect(page.locator(".wb-tile").nth(1)).to_contain_text("Drained")
        assert page.evaluate("document.activeElement.closest('.wb-tile')?.dataset.uuid") == "GPU-1"
        waiters = page.locator("#wb-waiters > li")
        expect(waiters.nth(0)).to_contain_text("li")
        waiters.nth(1).get_by_role("button", name="First").focus()
        press("Enter")
        page.keyboard.type("a deadline")
        press("Enter")
        expect(waiters.nth(0)).to_contain_text("amara")
        press("Escape")
        page.locator(".wb-tile-open").first.focus()
        press("Enter")
        press("Tab")
        expect(details.get_by_role("button", name="End lease")).to_be_focused()
        press("Enter")
        press("Enter")
        expect(details).to_be_visible()  # a reason is required
        page.keyboard.type("maintenance")
        press("Enter")
        expect(page.locator(".wb-tile").first).to_contain_text("amara", timeout=20 * SECONDS)


@pytest.mark.parametrize("gpus", [0, 4, 512])
def test_a_narrow_window_scrolls_one_way(
    browser: Browser, tmp_path: Path, screenshots: Path, gpus: int
) -> None:
    with running_map_hub(browser, tmp_path, gpus) as map_hub:
        narrow = {"width": 400, "height": 800}
        with map_hub.page("mara", viewport=narrow, reduced_motion="reduce") as page:
            expect(page.locator(".wb-tile")).to_have_count(gpus)
            assert page.evaluate("document.documentElement.scrollWidth") == 400
            moving = "document.getAnimations().length"
            assert page.evaluate(moving) == 0
            page.screenshot(path=screenshots / f"gpu-map-narrow-{gpus}.png")
