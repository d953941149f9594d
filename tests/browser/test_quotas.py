"""Quota, line, drain and audit trail as an admin and two members of a group meet them, on a workbench of three GPUs.

The tests are chapters of one story and run in order.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from testing.stack import PASSWORD, Person, Stack, running_stack
from tests.browser.people import SECONDS, SEES, People, wait_for_lab


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack("wbquotas", gpus=3) as running:
        for name in ("mara", "noor"):
            running.person(name)
        made = running.admin().api("POST", "/groups/vision", {"users": ["mara", "noor"]})
        assert made.is_success, made.text
        yield running


def order(page: Page, state: str, button: str, reason: str) -> None:
    """Open the first tile in ``state`` and press ``button``, which asks why."""
    page.locator(".wb-tile", has_text=state).first.click()
    page.get_by_role("dialog").get_by_role("button", name=button).click()
    page.locator("#wb-reason").fill(reason)
    page.locator("#wb-order-do").click()
    expect(page.locator("#wb-said")).to_be_visible()


def test_1_an_admin_gives_a_group_two_gpus(people: People, stack: Stack) -> None:
    page = people.log_in("admin", stack.admin_password)
    page.goto("/hub/home")
    page.get_by_role("link", name="Quotas").click()
    adding = page.locator("#wb-add")
    adding.locator("[name=kind]").select_option("group")
    adding.locator("[name=name]").fill("vision")
    adding.locator("[name=max_gpus]").fill("2")
    adding.get_by_role("button", name="Add").click()
    row = page.locator("#wb-rows form", has_text="vision")
    expect(row.locator("[name=max_gpus]")).to_have_value("2")
    page.locator("#wb-user").fill("mara")
    page.get_by_role("button", name="Look up").click()
    expect(page.locator("#wb-effective")).to_contain_text("from group vision")
    people.shoot("admin", "40-quotas")


def test_2_a_member_sees_why_not_three_and_gets_two(people: People, stack: Stack) -> None:
    page = people.log_in("mara")
    page.goto("/hub/spawn")
    three = page.locator(".wb-choice", has=page.locator("input[value='3']"))
    expect(three.locator("input")).to_be_disabled()
    expect(three).to_contain_text("quota")
    people.shoot("mara", "41-beyond-the-quota")
    mara = Person("mara", PASSWORD, stack.url)
    mara.log_in()
    refused = mara.request_server(gpus=3)
    assert "You asked for 3 GPUs and hold or wait for 0, but your quota is 2" in refused.text
    wait_for_lab(people.start("mara", 2))
    assert len(stack.inside("mara", "python", "-c", SEES).split()) == 2


def test_3_a_second_member_waits(people: People) -> None:
    people.log_in("noor")
    page = people.start("noor", 2)
    expect(page.locator("#wb-position")).to_have_text("1")


def test_4_the_admin_drains_one_ends_a_lease_and_the_waiting_one_starts(
    people: People, stack: Stack
) -> None:
    held = set(stack.inside("mara", "python", "-c", SEES).split())
    page = people.page("admin")
    page.goto("/hub/gpus")
    expect(page.locator("#wb-waiters")).to_contain_text("noor · 2 GPUs")
    people.shoot("admin", "42-map")
    order(page, "Free", "Drain", "its fan is loud")
    expect(page.locator(".wb-tile", has_text="Drained")).to_have_count(1)
    order(page, "mara", "End lease", "a demonstration at noon")
    wait_for_lab(people.page("noor"))
    assert set(stack.inside("noor", "python", "-c", SEES).split()) == held
    expect(page.locator(".wb-tile", has_text="noor")).to_have_count(2, timeout=30 * SECONDS)
    people.shoot("admin", "43-map-after")
    page = people.page("mara")
    page.goto("/hub/home")
    expect(page.locator("body")).to_contain_text("a demonstration at noon")
    people.shoot("mara", "44-ended")


def test_5_the_audit_trail_shows_it_all(people: People) -> None:
    page = people.page("admin")
    page.goto("/hub/audit")
    trail = page.locator(".wb-trail")
    for said in (
        "admin changed the quota of group vision",
        "its fan is loud",
        "a demonstration at noon",
        "(mara, 2 GPUs)",
        "(noor, 2 GPUs)",
    ):
        expect(trail).to_contain_text(said)
    people.shoot("admin", "45-audit")
