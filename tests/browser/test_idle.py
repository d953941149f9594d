"""GPUs that nothing uses, as their users meet it, on a workbench that waits for two minutes instead of three hours.

The tests are chapters of one story and run in order. Ida leaves her notebook open; Theo's training computes all the
while, without a word in any notebook.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from testing.eventually import eventually_sync
from testing.stack import Person, Stack, running_stack
from tests.browser.people import SECONDS, SEES, People, choose_theme, wait_for_lab

WARNING = "Nothing uses your GPUs. They are given back at"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    settings = {"WORKBENCH_IDLE_MINUTES": "2", "WORKBENCH_IDLE_WARNING_MINUTES": "1"}
    with running_stack("wbidle", gpus=2, **settings) as running:
        for uuid in running.gpu_uuids:
            running.simulate(uuid, utilization_percent=0, wave_seconds=0)
        yield running


@pytest.fixture(scope="module")
def ida(stack: Stack) -> Person:
    return stack.person("ida")


@pytest.fixture(scope="module")
def theo(stack: Stack) -> Person:
    return stack.person("theo")


def test_1_who_leaves_a_notebook_open_is_warned_and_may_stay(
    people: People, stack: Stack, ida: Person, theo: Person
) -> None:
    theo.start(gpus=1)
    stack.simulate(stack.inside("theo", "python", "-c", SEES), utilization_percent=97)
    ida.start(gpus=1, when_idle="go_on")
    people.log_in("ida")
    page = people.page("ida")
    page.goto("/user/ida/lab")
    wait_for_lab(page)
    page.locator(".gpu-panel-Status").first.click()
    warning = page.locator(".Toastify__toast", has_text=WARNING)
    expect(warning).to_be_visible(timeout=180 * SECONDS)
    expect(page.locator(".gpu-panel-Lease")).to_contain_text("they are given back in")
    page.wait_for_timeout(1 * SECONDS)  # it slides in
    expect(page.locator("#jp-main-statusbar")).to_contain_text("unused")
    people.shoot("ida", "50-idle-warning")
    warning.get_by_role("button", name="I'm still here").click()
    expect(warning).to_have_count(0)
    expect(page.locator("#jp-main-statusbar")).not_to_contain_text("unused")
    choose_theme(page, "Dark")


def test_2_who_does_not_answer_goes_on_without_gpus(
    people: People, stack: Stack, ida: Person
) -> None:
    page = people.page("ida")
    stack.inside("ida", "sh", "-c", "echo kept > ~/note.txt")
    expect(page.locator(".Toastify__toast", has_text=WARNING)).to_be_visible(timeout=180 * SECONDS)
    given_back = page.locator(".jp-Dialog", has_text="Your GPUs were given back")
    expect(given_back).to_be_visible(timeout=180 * SECONDS)
    expect(page.locator(".Toastify__toast", has_text=WARNING)).to_have_count(0)
    people.shoot("ida", "51-given-back-dark")
    page.set_viewport_size({"width": 480, "height": 800})
    people.shoot("ida", "51-given-back-narrow")
    page.set_viewport_size({"width": 1280, "height": 800})
    eventually_sync(
        lambda: (ida.server or {}).get("ready"), seconds=60, what="she has a server again"
    )
    page.goto("/user/ida/lab")
    gone_on = page.locator(".Toastify__toast", has_text="This server was restarted without GPUs")
    expect(gone_on).to_be_visible(timeout=60 * SECONDS)
    page.wait_for_timeout(1 * SECONDS)
    people.shoot("ida", "52-goes-on-without-gpus-dark")
    assert stack.inside("ida", "sh", "-c", "cat ~/note.txt") == "kept"
    assert stack.inside("ida", "python", "-c", SEES) == ""


def test_3_one_click_requests_them_again(people: People, stack: Stack, ida: Person) -> None:
    page = people.page("ida")
    page.get_by_role("button", name="Ask for them again").click()
    page.get_by_role("button", name="Ask for 1 GPU again").click()
    eventually_sync(
        lambda: (ida.server or {}).get("ready") and stack.inside("ida", "python", "-c", SEES),
        seconds=60,
        what="she has a GPU again",
    )
    people.shoot("ida", "53-asked-again")


def test_4_a_training_is_never_stopped(stack: Stack, theo: Person) -> None:
    lease = theo.api("GET", "/workbench/server/lease").json()
    assert (lease["state"], lease["idle_seconds_left"]) == ("running", None)
    ends = stack.admin().api("GET", "/workbench/trail", params={"action": "lease.ended"}).json()
    assert [end["subject"] for end in ends["entries"] if "theo" in str(end)] == []
