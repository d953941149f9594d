"""The spawn form: what can be had now, what cannot and why; whatever people are called."""

from typing import Any

import httpx
import pytest
from bs4 import BeautifulSoup

from spawner.hub.views.availability import Availability
from spawner.hub.views.form import build_choices, parse_form, render
from spawner.hub.views.queue import Viewer
from spawner.model import GpuHealth, Options
from tests.hub.accounts import join
from tests.hub.availability import ME, NAME, NOW, PROFILE, RELEASES, gpu, offer, part
from tests.hub.hub_env import HubEnvironment
from tests.hub.pages import attribute, one, parse
from tests.hub.servers import start


def want(gpus: int, profile: str | None = None) -> Options:
    return Options("v2.9", gpus, 8.0, profile)


def form(shown: Availability, wanted: int = 1, viewer: Viewer = ME) -> BeautifulSoup:
    html = render(shown, RELEASES, want(wanted), viewer, lambda at: at)
    return parse(html)


@pytest.mark.parametrize(
    ("shown", "wanted", "reasons", "positions", "chosen"),
    [
        (offer(), 1, [None], [None], 0),
        (offer(gpu(0), gpu(1)), 1, [None] * 3, [None] * 3, 1),
        (offer(gpu(0), gpu(1)), 2, [None] * 3, [None] * 3, 2),
        (offer(gpu(0, "bob"), gpu(1)), 2, [None] * 3, [None, None, 1], 2),
        (offer(gpu(0, "bob"), gpu(1, "eve")), 1, [None] * 3, [None, 1, 1], 1),
        (offer(gpu(0, "bob"), gpu(1, "eve"), line=2), 1, [None] * 3, [None, 3, 3], 1),
        (offer(gpu(0), gpu(1), most=1), 2, [None, None, "your quota is 1"], [None] * 3, 1),
        (
            offer(gpu(0), gpu(1), most=0),
            1,
            [None, "your quota is 0", "your quota is 0"],
            [None] * 3,
            0,
        ),
        (
            offer(gpu(0, "me"), gpu(1), most=1, own=1),
            1,
            [None, "your quota is 1, you have 1", "your quota is 1, you have 1"],
            [None, None, 1],
            0,
        ),
        (offer(gpu(0, health=GpuHealth.LOST)), 1, [None, None], [None, 1], 1),
        (offer(gpu(0, health=GpuHealth.UNKNOWN)), 1, [None, None], [None, 1], 1),
        (offer(gpu(0), gpu(1, reason="failed")), 2, [None] * 3, [None, None, 1], 2),
        (offer(gpu(0, "bob"), part(1, 0), part(1, 1)), 1, [None] * 4, [None, 1, None, None], 1),
        (offer(gpu(0, "eve"), part(1, 0, "bob"), line=1), 1, [None] * 3, [None, 2, 1], 1),
    ],
)
def test_a_count_gives_the_reason_why_it_cannot_be_had_or_which_place_it_would_get(
    shown: Availability,
    wanted: int,
    reasons: list[str | None],
    positions: list[int | None],
    chosen: int,
) -> None:
    choices = build_choices(shown, want(wanted), lambda at: at)
    assert [choice.reason for choice in choices] == reasons
    assert [choice.position for choice in choices] == positions
    assert [choice.count for choice in choices if choice.is_chosen] == [chosen]


def test_a_wait_is_foreseen_from_the_ends_of_leases() -> None:
    choices = build_choices(
        offer(gpu(0, "bob"), gpu(1, "eve"), line=1), want(1), lambda at: at + 5.0
    )
    # an hour for bob and eve, then one more for the user who waits before
    assert [choice.about and choice.about.at for choice in choices] == [
        None,
        NOW + 2 * 3600 + 5,
        NOW + 2 * 3600 + 5,
    ]
    lost = build_choices(offer(gpu(0, health=GpuHealth.LOST)), want(1), lambda at: at)
    assert [choice.about for choice in lost] == [None, None]


def test_the_page_shows_each_gpu_and_how_many_are_free() -> None:
    page = form(
        offer(gpu(0, "bob"), gpu(1, memory_total_bytes=None), gpu(2, health=GpuHealth.LOST))
    )
    rows = [" ".join(row.text.split()) for row in page.select(".wb-gpus > li")]
    until = one(page, ".wb-gpus time").text
    assert rows == [
        f"GPU 0 · {NAME} · 80 GiB held by bob until {until}",
        f"GPU 1 · {NAME} · memory unknown free",
        f"GPU 2 · {NAME} · 80 GiB out of use: it does not answer",
    ]
    assert "1 of 3 GPUs free now" in page.text
    assert not page.select(".wb-kind")
    assert [o["value"] for o in page.select("select[name=release] option")] == ["v2.7", "v2.9"]
    assert one(page, "option[selected]")["value"] == "v2.9"
    assert [i["value"] for i in page.select("input[name=gpus][disabled]")] == []
    assert [i["value"] for i in page.select("input[name=gpus][data-waits]")] == ["2", "3"]
    labels = [" ".join(label.text.split()) for label in page.select(".wb-choice label")]
    assert labels[0:2] == ["No GPUalways free", "1 GPU"]
    assert labels[2].startswith("2 GPUsyou would wait: position 1")
    assert labels[3] == "3 GPUsyou would wait: position 1"


def test_where_there_are_mig_instances_the_form_separates_the_kinds() -> None:
    page = form(offer(gpu(0), part(1, 0), part(1, 1, "bob")))
    sent = [i["value"] for i in page.select("input[name=gpus]")]
    assert sent == ["0", "1", f"1 {PROFILE}", f"2 {PROFILE}"]
    assert [kind.text for kind in page.select(".wb-kind")] == [f"MIG instances {PROFILE}"]
    labels = [" ".join(label.text.split()) for label in page.select(".wb-choice label")]
    assert labels[1:3] == ["1 GPU", f"1 MIG instance {PROFILE}"]
    assert labels[3].startswith(f"2 MIG instances {PROFILE}you would wait: position 1, about")
    rows = [" ".join(row.text.split()) for row in page.select(".wb-gpus > li")]
    assert rows[1] == f"MIG instance 0 of GPU 1 · {PROFILE} · {NAME} · 10 GiB free"
    assert f"1 of 1 GPU free, 1 of 2 MIG instances {PROFILE} free now" in page.text


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (want(1), "1"),
        (want(2, PROFILE), f"2 {PROFILE}"),
        (want(3, PROFILE), f"2 {PROFILE}"),
        (want(1, "7g.80gb"), "0"),
        (want(0), "0"),
    ],
)
def test_the_kind_chosen_last_is_chosen_again(wanted: Options, chosen: str) -> None:
    shown = offer(gpu(0), part(1, 0), part(1, 1))
    choices = build_choices(shown, wanted, lambda at: at)
    assert [choice.value for choice in choices if choice.is_chosen] == [chosen]


def test_a_quarantined_gpu_is_not_called_free() -> None:
    page = form(offer(gpu(0, reason="failed (Xid 79)"), gpu(1, "bob", reason="was lost"), gpu(2)))
    rows = page.select(".wb-gpus > li")
    assert "out of use: it failed (Xid 79)" in rows[0].text
    assert "out of use: it was lost, held by bob until" in rows[1].text
    assert "1 of 3 GPUs free now" in page.text


def test_the_time_requested_lies_within_the_quota() -> None:
    hours = one(form(offer(gpu(0))), "input[name=hours]")
    assert (hours["value"], hours["max"]) == ("8", "24")


def test_who_may_not_see_names_sees_another_user_and_themselves() -> None:
    page = form(offer(gpu(0, "bob"), gpu(1, "me")), viewer=Viewer("me", sees_names=False))
    assert "bob" not in page.text
    assert "held by another user" in page.text
    assert "held by you" in page.text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8.0),
        ("1.5", 1.5),
        ("nan", "nan"),
        ("-1", "-1"),
        ("1e3", "1e3"),
        ("", ""),
        (".5", ".5"),
        ("5.", "5."),
        ("²", "²"),
        ("99999999999", "99999999999"),
    ],
)
def test_only_what_looks_like_hours_is_read_as_hours(text: str, value: float | str) -> None:
    assert parse_form({"hours": [text], "_xsrf": ["x"]}) == {"hours": value}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("2", {"gpus": 2}),
        ("2 1g.10gb", {"gpus": 2, "mig_profile": "1g.10gb"}),
        ("two 1g.10gb", {"gpus": "two 1g.10gb"}),
        ("-1", {"gpus": "-1"}),
        ("²", {"gpus": "²"}),
    ],
)
def test_only_what_looks_like_a_number_of_gpus_is_read_as_one(
    text: str, options: dict[str, Any]
) -> None:
    assert parse_form({"gpus": [text]}) == options


def test_simulated_gpus_are_marked() -> None:
    page = form(offer(gpu(0, name=f"{NAME} (simulated)")))
    assert one(page, ".wb-simulated").text == "simulated"
    assert not form(offer(gpu(0))).select(".wb-simulated")


def test_without_the_agent_the_form_offers_a_server_without_gpus() -> None:
    page = form(offer(error="The gpu-agent does not answer."))
    assert "The gpu-agent does not answer." in one(page, "[role=status]").text
    assert [i["value"] for i in page.select("input[name=gpus]")] == ["0"]
    assert one(page, "input[checked]")["value"] == "0"


def test_a_machine_without_gpus_is_no_error() -> None:
    page = form(offer())
    assert "has no GPU" in page.text
    assert not page.select("[role=status]")


def test_names_are_text_and_never_markup() -> None:
    evil = "<script>alert(1)</script>"
    shown = offer(gpu(0, evil), gpu(1, name=evil), error=evil)
    html = render(shown, RELEASES, Options("v2.7", 1), ME, lambda at: at)
    assert "<script>" not in html
    assert html.count("&lt;script&gt;") == 3


async def test_the_hub_serves_it_with_the_last_choice(hub_env: HubEnvironment) -> None:
    await start(hub_env, "bob", {"gpus": 1})
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        page = parse((await browser.get("/hub/spawn/alice")).text)
        assert "held by bob" in one(page, "#spawn_form").text
        assert one(page, "input[name=gpus][checked]")["value"] == "1"
        hub_env.user("alice").spawner.orm_spawner.user_options = {"gpus": 0}
        hub_env.user("alice").spawner.user_options = {"gpus": 0}
        hub_env.agent.is_silent = True
        page = parse((await browser.get("/hub/spawn/alice")).text)
    assert "does not answer" in page.text
    assert [i["value"] for i in page.select("input[name=gpus]")] == ["0"]


async def test_the_estimates_are_for_the_hours_requested(hub_env: HubEnvironment) -> None:
    await start(hub_env, "bob", {"gpus": 1, "hours": 2})
    # she waits for bob, and GPU 1 is free until then
    await start(hub_env, "carol", {"gpus": 2, "hours": 1})

    async def read(browser: httpx.AsyncClient, query: str) -> tuple[str, str | None, bool]:
        answer = await browser.get(f"/hub/spawn/alice{query}")
        assert answer.status_code == 200
        page = parse(answer.text)
        choice = one(page, "input[name=gpus][value='1']")
        checked = attribute(choice, "checked") if choice.has_attr("checked") else None
        return attribute(one(page, "#hours"), "value"), checked, choice.has_attr("data-waits")

    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        assert await read(browser, "") == ("24", "", True)
        assert await read(browser, "?hours=1.5") == ("1.5", "", False)
        assert await read(browser, "?hours=3") == ("3", "", True)
        for wrong in ("?hours=", "?hours=x", "?hours=-1", "?hours=1&hours=2", "?hours=99999"):
            assert await read(browser, wrong) == ("24", "", True)
        assert (await browser.get("/hub/spawn/alice?hours=1&gpus=1")).status_code == 400
    assert hub_env.leftovers("alice") == {}
