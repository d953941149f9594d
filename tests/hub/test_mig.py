"""MIG instances and quarantined GPUs, from the form to the container, the line and the pages."""

from dataclasses import replace
from functools import partial

import pytest

from spawner.hub.views.queue import Viewer, build_wait_view, format_position
from spawner.model import LeaseState
from testing.eventually import eventually
from tests.hub.accounts import join
from tests.hub.hub_env import HubEnvironment, xsrf_of
from tests.hub.pages import parse
from tests.hub.servers import lease_of, read_queue, start, stop

PROFILE = "1g.10gb"
PART = {"gpus": 1, "mig_profile": PROFILE, "hours": 1}
GPU = {"gpus": 1, "hours": 1}


@pytest.fixture
async def divided(hub_env: HubEnvironment) -> HubEnvironment:
    """A hub with a whole GPU, and another that is divided into two MIG instances."""
    whole, other = hub_env.agent.gpus
    parts = [
        replace(other, uuid=f"MIG-{part}", mig_index=part, mig_profile=PROFILE) for part in (0, 1)
    ]
    hub_env.agent.gpus = [whole, *parts]
    return hub_env


def text_of(page: str, selector: str) -> list[str]:
    found = parse(page).select(selector)
    return [" ".join(one.text.split()) for one in found]


async def test_the_form_gives_a_mig_instance_and_home_names_it(divided: HubEnvironment) -> None:
    async with divided.browser() as browser:
        await join(divided, browser, "alice")
        page = await browser.get("/hub/spawn/alice")
        form = {"release": "v2.7", "gpus": f"1 {PROFILE}", "hours": "1"}
        await browser.post(f"/hub/spawn/alice?_xsrf={xsrf_of(page.text)}", data=form)
        await eventually(lambda: divided.user("alice").spawner.ready, "alice's server runs")
        home = (await browser.get("/hub/home")).text
    steps = [step.message async for step in divided.user("alice").spawner._progress.follow()]
    assert f"Got 1 MIG instance {PROFILE} (MIG instance 0 of GPU 1: NVIDIA A100" in steps[0]
    lease = lease_of(divided, "alice")
    assert (lease.gpu_uuids, lease.mig_profile) == (("MIG-0",), PROFILE)
    devices = divided.container(lease).body["HostConfig"]["DeviceRequests"][0]["DeviceIDs"]
    assert devices == ["nvidia.com/gpu=MIG-0"]
    (row,) = text_of(home, ".wb-gpus > li")
    assert row.startswith(f"MIG instance 0 of GPU 1 · {PROFILE} · NVIDIA A100")


async def test_a_profile_that_no_gpu_has_is_refused_at_once(divided: HubEnvironment) -> None:
    status, message = await start(divided, "alice", {**PART, "mig_profile": "3g.40gb"})
    assert status == 400
    assert message == (
        "You asked for 1 MIG instance 3g.40gb, but this workbench has 1 GPU and 2 MIG instances "
        "1g.10gb: choose one of them."
    )
    assert divided.leftovers("alice") == {}


@pytest.fixture
async def busy(divided: HubEnvironment) -> HubEnvironment:
    """Ann holds the GPU, Mia both MIG instances; bob waits for a GPU, then carol and dan for a MIG instance."""
    assert (await start(divided, "ann", {**GPU, "hours": 2}))[0] == 201
    assert (await start(divided, "mia", {**PART, "gpus": 2}))[0] == 201
    divided.be_brisk()
    for name, body in (("bob", GPU), ("carol", PART), ("dan", PART)):
        assert (await start(divided, name, body))[0] == 202
    return divided


def positions(hub_env: HubEnvironment) -> dict[str, int]:
    return {entry.lease.user: entry.place.position for entry in hub_env.controller.queue()}


async def test_each_kind_has_a_line_of_its_own(busy: HubEnvironment) -> None:
    assert positions(busy) == {"bob": 1, "carol": 1, "dan": 2}
    shown = await read_queue(busy, "dan")
    assert shown["kinds"] == [
        {"mig_profile": None, "total": 1, "free": 0, "drained": 0},
        {"mig_profile": PROFILE, "total": 2, "free": 0, "drained": 0},
    ]
    asked = [(one["position"], one["user"], one["mig_profile"]) for one in shown["waiting"]]
    assert asked == [(1, "bob", None), (1, "carol", PROFILE), (2, "you", PROFILE)]
    async with busy.browser() as browser:
        await join(busy, browser, "eve")
        line = (await browser.get("/hub/queue")).text
    rows = text_of(line, "#wb-waiters > li")
    assert rows[0].startswith("1 bob · 1 GPU for 1 hour")
    assert rows[2].startswith(f"2 dan · 1 MIG instance {PROFILE} for 1 hour")
    assert any(row.startswith("mia · 2 MIG instances") for row in text_of(line, "#wb-holders > li"))
    assert "have separate queues" in line

    assert await stop(busy, "mia") == 204
    for name in ("carol", "dan"):
        await eventually(partial(busy.is_ready, name), f"{name}'s server runs")
    assert lease_of(busy, "bob").state is LeaseState.WAITING


async def test_who_waits_sees_those_who_want_the_same(busy: HubEnvironment) -> None:
    (dan,) = (entry for entry in busy.controller.queue() if entry.lease.user == "dan")
    message = format_position(busy.workbench, dan.lease, dan.place)
    assert message.startswith(f"Waiting for 1 MIG instance {PROFILE}: position 2 of 2, about ")
    told = await build_wait_view(busy.workbench, Viewer("dan", sees_names=True), dan.place)
    assert (told["gpus"], told["mig_profile"]) == (1, PROFILE)
    assert (told["position"], told["queue_length"]) == (2, 2)
    assert [one["user"] for one in told["ahead"]] == ["carol"]
    assert [one["user"] for one in told["holders"]] == ["mia"]


def has_progress(hub_env: HubEnvironment, name: str) -> bool:
    return bool(hub_env.user(name).spawner._progress._steps)


async def test_a_restarted_hub_keeps_everyones_place_in_their_line(busy: HubEnvironment) -> None:
    before = [entry.lease for entry in busy.controller.queue()]
    await busy.close_hub()
    await busy.open_hub()
    busy.be_brisk()
    for name in ("bob", "carol", "dan"):
        await eventually(partial(has_progress, busy, name), f"{name} sees their position")
    assert [entry.lease for entry in busy.controller.queue()] == before


async def test_a_quarantined_gpu_is_not_offered(divided: HubEnvironment) -> None:
    divided.ledger.quarantine(
        "MIG-0", "failed (Xid 79)", xid_at=None, now=divided.workbench.clock()
    )
    assert (await start(divided, "bob", PART))[0] == 201
    assert lease_of(divided, "bob").gpu_uuids == ("MIG-1",)
    async with divided.browser() as browser:
        await join(divided, browser, "alice")
        form = (await browser.get("/hub/spawn/alice")).text
        line = (await browser.get("/hub/queue")).text
    assert "out of use: it failed (Xid 79)" in text_of(form, ".wb-gpus > li")[1]
    assert f"1 of 1 GPU free, 0 of 2 MIG instances {PROFILE} free now" in form
    assert f"0 of 2 MIG instances {PROFILE} free now, 1 quarantined" in line
