"""Whether a release runs on the host's GPUs: shown in the form before a wait, refused at every entry."""

from typing import Any

import pytest
from bs4 import BeautifulSoup

from spawner.hub.views.availability import GpuAvailability
from spawner.hub.views.form import render
from spawner.model import Gpu, Options
from tests.hub.accounts import join
from tests.hub.availability import ME, NAME, RELEASES, gpu, offer, part
from tests.hub.hub_env import HubEnvironment, xsrf_of
from tests.hub.pages import parse
from tests.hub.servers import start

A100 = {"compute_capability": "8.0", "driver_version": "580.95.05", "cuda_driver_version": "13.0"}
OLD_DRIVER = {**A100, "driver_version": "535.161.08", "cuda_driver_version": "12.2"}
BLACKWELL = {**A100, "compute_capability": "12.0"}
TOO_OLD = "needs driver ≥ 580, this host has 535.161.08"
NO_KERNEL = (
    "has no kernel for compute capability 12.0, only sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"
)
ONLY_MINOR = "runs by CUDA minor-version compatibility: it has CUDA 12.6, the driver 12.2"


def show(*gpus: GpuAvailability) -> BeautifulSoup:
    html = render(offer(*gpus), RELEASES, Options("v2.7", 1), ME, lambda at: at)
    return parse(html)


@pytest.mark.parametrize(
    ("host", "said", "refused"),
    [
        ([], [], {}),
        ([A100, A100], ["v2.7 runs on every GPU here", "v2.9 runs on every GPU here"], {}),
        (
            [OLD_DRIVER],
            [f"v2.7 {ONLY_MINOR}", f"v2.9 {TOO_OLD}"],
            {"v2.9": f"v2.9 {TOO_OLD}: choose another release, or ask for 0 GPUs."},
        ),
        (
            [BLACKWELL],
            [f"v2.7 {NO_KERNEL}", "v2.9 runs on every GPU here"],
            {"v2.7": f"v2.7 {NO_KERNEL}: choose another release, or ask for 0 GPUs."},
        ),
        (
            [A100, BLACKWELL, A100],
            [
                "v2.7 on GPU 0 and GPU 2: runs",
                f"v2.7 on GPU 1: {NO_KERNEL}",
                "v2.9 runs on every GPU here",
            ],
            {},
        ),
        (
            [{}],
            [f"{name} cannot be judged: the driver is unknown" for name in ("v2.7", "v2.9")],
            {},
        ),
    ],
)
def test_the_form_states_which_release_runs_where(
    host: list[dict[str, Any]], said: list[str], refused: dict[str, str]
) -> None:
    page = show(*(gpu(index, **facts) for index, facts in enumerate(host)))
    assert [" ".join(row.text.split()) for row in page.select(".wb-release-notes > li")] == said
    options = page.select("select[name=release] option[data-refusal]")
    assert {option["value"]: option["data-refusal"] for option in options} == refused


def test_the_parts_of_a_divided_gpu_are_one_gpu() -> None:
    page = show(part(0, 0, **BLACKWELL), part(0, 1, **BLACKWELL), gpu(1, **A100))
    rows = [row.text for row in page.select(".wb-release-notes > li")]
    assert rows[:2] == [
        f"v2.7 on GPU 0: {NO_KERNEL}",
        "v2.7 on GPU 1: runs",
    ]
    assert not page.select("option[data-refusal]")


def test_a_simulated_gpu_is_judged_and_called_simulated() -> None:
    page = show(gpu(0, **A100, name=f"{NAME} (simulated)"))
    rows = [" ".join(row.text.split()) for row in page.select(".wb-release-notes > li")]
    assert rows[0] == "v2.7 runs on every GPU here simulated"


@pytest.fixture
def misfit(hub_env: HubEnvironment) -> HubEnvironment:
    """A hub whose driver is too old for its release."""
    for index, _ in enumerate(hub_env.agent.gpus):
        hub_env.agent.set(index, driver_version="470.256.02", compute_capability="8.0")
    return hub_env


SENTENCE = (
    "v2.7 needs driver ≥ 525.60.13, this host has 470.256.02: choose another release, or ask for "
    "0 GPUs."
)


async def test_rest_and_form_refuse_with_the_same_sentence(misfit: HubEnvironment) -> None:
    assert await start(misfit, "alice", {"gpus": 1}) == (409, SENTENCE)
    assert misfit.leftovers("alice") == {}
    async with misfit.browser() as browser:
        await join(misfit, browser, "bob")
        page = await browser.get("/hub/spawn/bob")
        (option,) = parse(page.text).select("option[data-refusal]")
        assert option["data-refusal"] == SENTENCE
        form = {"release": "v2.7", "gpus": "1", "hours": "1"}
        url = f"/hub/spawn/bob?_xsrf={xsrf_of(page.text)}"
        answer = await browser.post(url, data=form, follow_redirects=True)
    assert SENTENCE in parse(answer.text).text


async def test_without_gpus_every_release_starts(misfit: HubEnvironment) -> None:
    assert await start(misfit, "alice", {"gpus": 0}) == (201, "")


async def test_what_is_unknown_keeps_no_one_waiting(hub_env: HubEnvironment) -> None:
    hub_env.agent.gpus = [Gpu("GPU-0", 0, NAME, None, hub_env.agent.gpus[0].health)]
    assert await start(hub_env, "alice", {"gpus": 1}) == (201, "")
