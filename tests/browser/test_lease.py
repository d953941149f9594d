"""A lease as JupyterLab shows it, in a real Chromium: counted down, extended, refused, in trouble, over.

The tests are chapters of one story and run in order.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from testing.eventually import eventually_sync
from testing.stack import Person, Stack, running_stack
from tests.browser.people import SECONDS, SEES, People, choose_theme, wait_for_lab

HOUR = 3600
WARNING = "in less than 5 min"
FILE = "/home/researcher/untitled.txt"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack("wblease") as running:
        yield running


@pytest.fixture(scope="module")
def lena(stack: Stack) -> Person:
    return stack.person("lena")


def open_lab(people: People, person: Person) -> Page:
    """Open JupyterLab with the panel in a browser that is logged in."""
    page = people.page(person.name)
    page.goto(f"/user/{person.name}/lab")
    wait_for_lab(page)
    page.locator(".gpu-panel-Status").first.click()
    expect(page.locator(".gpu-panel-Panel")).to_be_visible()
    return page


def seconds_left(person: Person) -> float:
    left: float = person.api("GET", "/workbench/server/lease").json()["seconds_left"]
    return left


def extend_by_an_hour(page: Page, button: str) -> None:
    page.get_by_role("button", name=button).first.click()
    dialog = page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("Extend your GPU lease")
    dialog.locator("select").select_option("1 hour")
    dialog.get_by_role("button", name="Extend").click()


def test_1_the_lease_is_counted_down_and_its_end_is_warned_of(people: People, lena: Person) -> None:
    # a warning is due at 5 minutes: a lease of not much more has one within half a minute
    people.log_in("lena")
    lena.start(gpus=1, hours=0.09)
    page = open_lab(people, lena)
    expect(page.locator(".gpu-panel-Lease")).to_contain_text("min left")
    expect(page.locator("#jp-main-statusbar")).to_contain_text("GPU lease: ")
    warning = page.locator(".Toastify__toast", has_text=WARNING)
    expect(warning).to_be_visible(timeout=60 * SECONDS)
    expect(warning).to_contain_text("Your GPU lease ends at")
    people.shoot("lena", "20-lease-warning")
    choose_theme(page, "Dark")
    people.shoot("lena", "21-lease-warning-dark")
    choose_theme(page, "Light")


def test_2_while_others_wait_an_extension_is_refused_in_a_sentence(
    people: People, lena: Person, stack: Stack
) -> None:
    page = people.page("lena")
    otto = stack.person("otto")
    otto.request_server(gpus=2)
    eventually_sync(lambda: otto.position == 1, seconds=30, what="otto waits")
    extend_by_an_hour(page, "Extend by …")
    refusal = page.locator(".Toastify__toast", has_text="Others wait for GPUs")
    expect(refusal).to_be_visible()
    people.shoot("lena", "22-lease-refused")
    assert seconds_left(lena) < HOUR
    otto.stop()


def test_3_an_extension_shows_the_new_end_and_takes_the_warning_back(
    people: People, lena: Person
) -> None:
    page = people.page("lena")
    extend_by_an_hour(page, "Extend the GPU lease")
    expect(page.locator(".Toastify__toast", has_text="now ends at")).to_be_visible()
    expect(page.locator(".gpu-panel-Lease")).to_contain_text("1 h ")
    expect(page.locator("#jp-main-statusbar")).to_contain_text("GPU lease: 1 h ")
    expect(page.locator(".Toastify__toast", has_text=WARNING)).to_have_count(0)
    expect(page.locator(".Toastify__toast", has_text="Others wait")).to_have_count(0)
    assert seconds_left(lena) > HOUR
    page.set_viewport_size({"width": 900, "height": 800})
    people.shoot("lena", "23-lease-extended-narrow")
    page.set_viewport_size({"width": 1280, "height": 800})


def test_4_a_reload_gives_no_warning_that_is_not_due(people: People) -> None:
    page = people.page("lena")
    page.reload()
    page.locator("#jp-main-dock-panel").wait_for()
    expect(page.locator("#jp-main-statusbar")).to_contain_text("GPU lease: 1 h ")
    expect(page.locator(".Toastify__toast")).to_have_count(0)


def test_5_a_gpu_that_fails_is_shown_to_its_user(
    people: People, lena: Person, stack: Stack
) -> None:
    page = people.page("lena")
    uuid = stack.inside("lena", "python", "-c", SEES)
    stack.simulate(uuid, health="lost")
    toast = page.locator(".Toastify__toast", has_text="of this server was lost by its driver")
    expect(toast).to_be_visible(timeout=60 * SECONDS)
    expect(page.locator(".gpu-panel-Lease .gpu-panel-Problem")).to_contain_text("save your work")
    people.shoot("lena", "24-gpu-failed")
    lena.stop()
    stack.simulate(uuid, health="ok")
    admin = stack.admin()
    eventually_sync(
        lambda: admin.api("POST", f"/workbench/gpus/{uuid}/release").status_code == 204,
        seconds=60,
        what="the admin returns the GPU",
    )


def test_6_documents_are_saved_before_the_end_and_the_end_is_reported(
    people: People, lena: Person, stack: Stack
) -> None:
    lena.start(gpus=1, hours=0.06)
    page = open_lab(people, lena)
    page.get_by_role("menuitem", name="Settings", exact=True).click()
    page.locator(".lm-Menu-itemLabel", has_text="Autosave Documents").click()
    page.locator(".jp-LauncherCard", has_text="Text File").first.click()
    editor = page.locator(".jp-FileEditor .cm-content")
    editor.click()
    editor.press_sequentially("precious words")
    assert stack.inside("lena", "cat", FILE) == ""
    assert seconds_left(lena) > 120, "this machine is too slow for so short a lease"
    eventually_sync(
        lambda: stack.inside("lena", "cat", FILE) == "precious words",
        seconds=120,
        what="the document is saved",
    )
    ended = page.locator(".jp-Dialog", has_text="Your GPU lease has ended")
    expect(ended).to_be_visible(timeout=180 * SECONDS)
    expect(ended).to_contain_text("Your files are kept")
    eventually_sync(lambda: lena.server is None, seconds=60, what="the server is stopped")
    people.shoot("lena", "25-lease-ended")
    ended.get_by_role("button", name="Stay on this page").click()
    page.wait_for_timeout(20 * SECONDS)
    # JupyterLab does not say over and over that the server is gone: that has been said
    expect(page.locator(".jp-Dialog")).to_have_count(0)
    page.goto("/hub/home")
    expect(page.locator(".alert:visible")).to_contain_text("its time was over")
