"""The main job as people meet it, in a real Chromium: from sign-up to a second person's turn with the GPU.

The tests are chapters of one story and run in order, each in the browser contexts that the chapters before it left.
"""

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from testing.stack import Stack, running_stack
from tests.browser.people import SECONDS, SEES, People, wait_for_lab

KEEPS_STEPS = """
addEventListener("DOMContentLoaded", () => {
  const steps = document.getElementById("progress-log");
  if (steps === null) return;
  const keep = () => sessionStorage.setItem("steps", steps.textContent);
  new MutationObserver(keep).observe(steps, { childList: true, subtree: true, characterData: true });
});
"""
"""Keeps what the pending page said for the page after it: a start may be quicker than its reader."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack("wbstory") as running:
        yield running


def test_1_a_newcomer_signs_up_and_waits_for_approval(people: People) -> None:
    page = people.sign_up("alice")
    expect(page.locator("body")).to_contain_text(re.compile("approv|authoriz|admin", re.IGNORECASE))
    people.shoot("alice", "01-signed-up")
    page = people.log_in("alice")
    expect(page).to_have_url(re.compile("/hub/login"))
    people.shoot("alice", "02-not-yet-approved")


def test_2_the_admin_approves(people: People, stack: Stack) -> None:
    page = people.log_in("admin", stack.admin_password)
    expect(page).not_to_have_url(re.compile("/hub/login"))
    page.goto("/hub/people")
    people.shoot("admin", "03-people")
    people.approve("alice")
    expect(page.get_by_role("status")).to_contain_text("alice is approved and may log in now.")


def test_3_the_form_shows_what_there_is(people: People, stack: Stack) -> None:
    page = people.log_in("alice")
    page.goto("/hub/spawn")
    form = page.locator("#spawn_form")
    expect(form).to_contain_text("A100-SXM4-80GB")
    expect(form).to_contain_text("80 GiB")
    expect(form).to_contain_text(re.compile("2 (of 2 )?(GPUs )?(are )?free", re.IGNORECASE))
    expect(form).to_contain_text(re.compile("simulated", re.IGNORECASE))
    people.shoot("alice", "04-form")
    page.emulate_media(color_scheme="dark")
    people.shoot("alice", "05-form-dark")
    page.set_viewport_size({"width": 420, "height": 900})
    people.shoot("alice", "06-form-narrow")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(color_scheme="light")


def test_4_a_start_shows_real_steps_and_ends_in_lab(people: People, stack: Stack) -> None:
    people.page("alice").add_init_script(KEEPS_STEPS)
    page = people.start("alice", 1)
    people.shoot("alice", "07-pending")
    wait_for_lab(page)
    assert "container" in page.evaluate("sessionStorage.getItem('steps')")
    people.shoot("alice", "08-lab")
    assert stack.inside("alice", "python", "-c", SEES) in stack.gpu_uuids
    assert int(stack.inside("alice", "id", "-u")) > 20000


def test_5_the_panel_follows_the_gpu_within_two_seconds(people: People, stack: Stack) -> None:
    page = people.page("alice")
    held = stack.inside("alice", "python", "-c", SEES)
    status = page.locator(".gpu-panel-Status")
    expect(status.first).to_contain_text("°C")
    status.first.click()
    panel = page.locator(".gpu-panel-Panel")
    expect(panel).to_be_visible()
    expect(panel).to_contain_text(re.compile("simulated", re.IGNORECASE))
    for celsius in (71, 43, 88):
        before = time.monotonic()
        stack.simulate(held, temperature_celsius=celsius, wave_seconds=0)
        expect(panel).to_contain_text(f"{celsius} °C", timeout=2 * SECONDS)
        expect(status.first).to_contain_text(f"{celsius} °C", timeout=2 * SECONDS)
        assert time.monotonic() - before < 2, "the panel is more than 2 s behind"
    people.shoot("alice", "09-panel")


def test_6_the_example_notebook_runs(people: People) -> None:
    page = people.page("alice")
    page.goto("/user/alice/lab/tree/examples/simplenet.ipynb")
    page.locator(".jp-Notebook").wait_for()
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=60 * SECONDS)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    output = page.locator(".jp-OutputArea-output", has_text="torch.Size([64, 10])")
    output.first.wait_for(timeout=90 * SECONDS)
    output.first.scroll_into_view_if_needed()
    people.shoot("alice", "10-notebook")


def test_7_the_panel_is_at_home_in_the_dark(people: People) -> None:
    page = people.page("alice")
    page.get_by_role("menuitem", name="Settings", exact=True).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Theme$")).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^JupyterLab Dark$")).click()
    page.locator("body[data-jp-theme-light=false]").wait_for(state="attached")
    page.wait_for_timeout(1500)
    people.shoot("alice", "11-panel-dark")


def test_8_when_none_is_free_one_waits_in_line_and_sees_it(people: People) -> None:
    people.join("bob")
    page = people.start("bob", 1)
    wait_for_lab(page)
    page = people.join("carol")
    page.goto("/hub/spawn")
    form = page.locator("#spawn_form")
    expect(form).to_contain_text("held by alice until")
    expect(form).to_contain_text("held by bob until")
    expect(form).to_contain_text("you would wait: position 1, about")
    people.shoot("carol", "12-none-free")
    page.locator("input[name=gpus][value='1']").check(force=True)
    button = page.locator("form#spawn_form [type=submit]")
    expect(button).to_have_text("Wait in line")
    button.click()
    expect(page.locator("#wb-title")).to_have_text("Waiting for 1 GPU")
    expect(page.locator("#wb-position")).to_have_text("1")
    expect(page.locator("#wb-ahead")).to_contain_text("You are next")
    expect(page.locator("#wb-holders")).to_contain_text("alice · 1 GPU")
    expect(page.locator("#wb-holders")).to_contain_text("bob · 1 GPU")
    people.shoot("carol", "13-waiting")
    page.emulate_media(color_scheme="dark")
    people.shoot("carol", "14-waiting-dark")
    page.emulate_media(color_scheme="light")
    line = people.page("bob")
    line.goto("/hub/queue")
    expect(line.locator("#wb-waiters")).to_contain_text("carol · 1 GPU")
    people.shoot("bob", "15-line")


def test_9_who_requests_more_waits_behind_and_gives_up(people: People) -> None:
    people.join("dora")
    page = people.start("dora", 2)
    expect(page.locator("#wb-position")).to_have_text("2")
    expect(page.locator("#wb-ahead")).to_contain_text("1. carol · 1 GPU")
    people.shoot("dora", "16-second-in-line")
    page.get_by_role("button", name="Give up").click()
    page.wait_for_url(re.compile("/hub/spawn/dora"))
    page.goto("/hub/queue")
    expect(page.locator("#wb-waiters")).not_to_contain_text("you")


def test_10_a_stopped_servers_gpu_is_the_next_ones(people: People, stack: Stack) -> None:
    freed = stack.inside("alice", "python", "-c", SEES)
    stack.inside("alice", "sh", "-c", "echo kept > ~/note.txt")
    page = people.page("alice")
    page.goto("/hub/home")
    expect(page.locator("#wb-lease")).to_contain_text("left")
    people.shoot("alice", "17-home")
    page.locator("#stop").click()
    page.locator("#start", has_text=re.compile("start", re.IGNORECASE)).wait_for()
    # carol's page waited for her turn and opens by itself
    wait_for_lab(people.page("carol"))
    assert stack.inside("carol", "python", "-c", SEES) == freed
    wait_for_lab(people.start("alice", 0))
    assert stack.inside("alice", "cat", "/home/researcher/note.txt") == "kept"
    expect(people.page("alice").locator(".gpu-panel-Status:visible")).to_contain_text("No GPU")
    people.shoot("alice", "18-no-gpu")


def test_11_an_extension_beyond_the_quota_is_refused_in_a_sentence(people: People) -> None:
    page = people.page("carol")
    page.goto("/hub/home")
    before = page.locator("#wb-lease time").first.get_attribute("datetime")
    page.locator("#wb-hours").fill("1")
    page.locator("#wb-extend button").click()
    # a whole day was asked for: more is beyond the quota, and the page says so
    expect(page.locator("#wb-extend-answer")).to_contain_text("24 hours")
    people.shoot("carol", "19-extension-refused")
    assert page.locator("#wb-lease time").first.get_attribute("datetime") == before
