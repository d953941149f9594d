"""The spawn form: what can be had now, what cannot and why; whatever people are called."""

from typing import Any

import pytest
from bs4 import BeautifulSoup

from spawner.catalog import Release
from spawner.controller import GpuOffer, Offer
from spawner.hub.form import build_choices, render
from spawner.model import Gpu, GpuHealth, Quota
from tests.hub.test_sign_up import join
from tests.hub.test_spawn import start
from tests.hub.town import Town

NAME = "NVIDIA A100-SXM4-80GB"
NOW = 10_000.0
RELEASES = {
    "v2.7": Release(
        "v2.7", "pytorch-cuda:v2.7", "PyTorch 2.7 · CUDA 12.6", "2.7.1", "12.6", "3.11"
    ),
    "v2.9": Release("v2.9", "pytorch-cuda:v2.9", "PyTorch 2.9", "2.9.0", "12.8", "3.11"),
}


def gpu(index: int, holder: str | None = None, **changes: Any) -> GpuOffer:
    values = {"name": NAME, "memory_total_bytes": 80 * 1024**3, "health": GpuHealth.OK, **changes}
    return GpuOffer(
        Gpu(f"GPU-{index}", index, **values), holder, NOW - 3 * 3600 if holder else None
    )


def offer(
    *gpus: GpuOffer, held: int = 0, most: int | None = None, error: str | None = None
) -> Offer:
    return Offer(gpus, held, Quota(most), error)


def form(shown: Offer, wanted: int = 1) -> BeautifulSoup:
    return BeautifulSoup(render(shown, RELEASES, "v2.9", wanted, NOW), "html.parser")


@pytest.mark.parametrize(
    ("shown", "wanted", "reasons", "chosen"),
    [
        (offer(), 1, [None], 0),
        (offer(gpu(0), gpu(1)), 1, [None, None, None], 1),
        (offer(gpu(0), gpu(1)), 2, [None, None, None], 2),
        (offer(gpu(0, "bob"), gpu(1)), 2, [None, None, "only 1 free now"], 1),
        (offer(gpu(0, "bob"), gpu(1, "eve")), 1, [None, "none is free now", "none is free now"], 0),
        (offer(gpu(0), gpu(1), most=1), 2, [None, None, "your quota is 1"], 1),
        (offer(gpu(0), gpu(1), most=0), 1, [None, "your quota is 0", "your quota is 0"], 0),
        (
            offer(gpu(0, "me"), gpu(1), most=1, held=1),
            1,
            [None, "your quota is 1, you hold 1", "your quota is 1, you hold 1"],
            0,
        ),
        (offer(gpu(0, health=GpuHealth.LOST)), 1, [None, "none is free now"], 0),
        (offer(gpu(0, health=GpuHealth.UNKNOWN)), 1, [None, "none is free now"], 0),
    ],
)
def test_a_count_that_cannot_be_had_says_why(
    shown: Offer, wanted: int, reasons: list[str | None], chosen: int
) -> None:
    choices = build_choices(shown, wanted)
    assert [choice.reason for choice in choices] == reasons
    assert [choice.count for choice in choices if choice.is_chosen] == [chosen]


def test_the_page_shows_each_gpu_and_how_many_are_free() -> None:
    page = form(
        offer(gpu(0, "bob"), gpu(1, memory_total_bytes=None), gpu(2, health=GpuHealth.LOST))
    )
    rows = [" ".join(row.text.split()) for row in page.select(".wb-gpus > li")]
    assert rows == [
        f"GPU 0 · {NAME} · 80 GiB held by bob for 3 h 0 min",
        f"GPU 1 · {NAME} · memory unknown free: anyone can have it now",
        f"GPU 2 · {NAME} · 80 GiB does not answer: nobody can have it",
    ]
    assert "1 of 3 free now" in page.text
    assert [o["value"] for o in page.select("select[name=release] option")] == ["v2.7", "v2.9"]
    assert page.select_one("option[selected]")["value"] == "v2.9"
    assert [i["value"] for i in page.select("input[name=gpus][disabled]")] == ["2", "3"]


def test_simulated_gpus_say_so() -> None:
    page = form(offer(gpu(0, name=f"{NAME} (simulated)")))
    assert page.select_one(".wb-simulated").text == "simulated"
    assert not form(offer(gpu(0))).select(".wb-simulated")


def test_without_the_agent_the_form_offers_a_server_without_gpus() -> None:
    page = form(offer(error="The gpu-agent does not answer."))
    assert "The gpu-agent does not answer." in page.select_one("[role=status]").text
    assert [i["value"] for i in page.select("input[name=gpus]")] == ["0"]
    assert page.select_one("input[checked]")["value"] == "0"


def test_a_machine_without_gpus_is_no_error() -> None:
    page = form(offer())
    assert "has no GPU" in page.text
    assert not page.select("[role=status]")


def test_names_are_text_and_never_markup() -> None:
    evil = "<script>alert(1)</script>"
    html = render(offer(gpu(0, evil), gpu(1, name=evil), error=evil), RELEASES, "v2.7", 1, NOW)
    assert "<script>" not in html
    assert html.count("&lt;script&gt;") == 3


async def test_the_hub_serves_it_with_the_last_choice(town: Town) -> None:
    await start(town, "bob", {"gpus": 1})
    async with town.browser() as browser:
        await join(town, browser, "alice")
        page = BeautifulSoup((await browser.get("/hub/spawn/alice")).text, "html.parser")
        assert "held by bob" in page.select_one("#spawn_form").text
        assert page.select_one("input[name=gpus][checked]")["value"] == "1"
        town.user("alice").spawner.orm_spawner.user_options = {"gpus": 0}
        town.user("alice").spawner.user_options = {"gpus": 0}
        town.agent.is_silent = True
        page = BeautifulSoup((await browser.get("/hub/spawn/alice")).text, "html.parser")
    assert "does not answer" in page.text
    assert [i["value"] for i in page.select("input[name=gpus]")] == ["0"]
