"""The GPU page and its stream: all viewers see the same, live, and nothing is sampled without a viewer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest

from spawner.hub.handlers import feed, stream
from spawner.hub.handlers.feed import Feed, Frame, Subscriber
from spawner.hub.handlers.openapi import DOCUMENT
from spawner.hub.schema.gpus import MapJson
from spawner.hub.views.gpu_map import EMPTY_OWN, diff_maps
from spawner.model import GpuHealth
from spawner.settings import Settings
from testing.eventually import eventually
from tests.hub.accounts import admin, join
from tests.hub.hub_env import HubEnvironment
from tests.hub.pages import attribute, one, parse
from tests.hub.servers import lease_of, start, wait_in_queue

STREAM = "/hub/api/workbench/gpus/stream"
GIB = 1024**3
Event = tuple[str, dict[str, Any]]
SHAPES = {"components": json.loads(DOCUMENT.read_text())["components"]}


class Watcher:
    """A browser's end of the stream; ``gpus`` are as its events leave them."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()
        self.map: dict[str, Any] = {}
        self.own: dict[str, Any] = {}

    async def next_event(self) -> Event:
        """Return the next event, and take it in."""
        kind = ""
        async with asyncio.timeout(20):
            async for line in self._lines:
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                if line.startswith("data: "):
                    return self._take(kind, json.loads(line.removeprefix("data: ")))
        raise EOFError

    def _take(self, kind: str, told: dict[str, Any]) -> Event:
        jsonschema.validate(told, {"$ref": f"#/components/schemas/{kind.title()}", **SHAPES})
        if kind == "map":
            self.map = told
        elif kind == "own":
            self.own = told
        else:
            gpus = self.map["devices"]
            self.map |= {key: value for key, value in told.items() if key != "devices"}
            for index, changed in told.get("devices", {}).items():
                gpus[int(index)] |= changed
        return kind, told

    async def until(self, is_so: Any) -> None:
        """Listen until ``is_so(map)``."""
        while not self.map or not is_so(self.map):
            await self.next_event()


@asynccontextmanager
async def watching(
    hub_env: HubEnvironment, name: str, *, is_admin: bool = False
) -> AsyncIterator[Watcher]:
    async with (
        hub_env.client(name, is_admin=is_admin) as client,
        client.stream("GET", STREAM) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["Content-Type"] == "text/event-stream"
        yield Watcher(answer)


async def test_a_map_then_only_what_changes(hub_env: HubEnvironment) -> None:
    hub_env.agent.read(0, memory_used_bytes=GIB, temperature_celsius=40, utilization_percent=7)
    async with watching(hub_env, "alice") as watcher:
        await watcher.until(lambda told: told["devices"])
        first, second = watcher.map["devices"]
        assert (watcher.map["host"], watcher.map["error"]) == ("gpu-host", None)
        assert (first["title"], first["name"], first["simulated"], first["state"]) == (
            "GPU 0", "NVIDIA A100-SXM4-80GB", True, "free",
        )  # fmt: skip
        assert (first["memory_used_bytes"], first["temperature_celsius"]) == (GIB, 40)
        unknown = ("memory_used_bytes", "temperature_celsius", "utilization_percent", "power_watts")
        assert [second[name] for name in unknown] == [None] * 4, "what nobody read is no zero"
        hub_env.agent.read(0, memory_used_bytes=GIB, temperature_celsius=41, utilization_percent=7)
        kind, told = await watcher.next_event()
        while "devices" not in told:
            kind, told = await watcher.next_event()
        assert (kind, told["devices"]) == ("changes", {"0": {"temperature_celsius": 41}})


async def test_holders_places_and_orders_are_seen_as_they_come(hub_env: HubEnvironment) -> None:
    hub_env.be_brisk()
    async with watching(hub_env, "alice") as watcher:
        await start(hub_env, "alice", {"gpus": 1})
        await watcher.until(lambda told: told["devices"][0]["holder"])
        assert watcher.map["devices"][0]["state"] == "held"
        assert watcher.map["devices"][0]["ends_at"]
        assert watcher.own == {"leases": [lease_of(hub_env, "alice").id], "positions": []}
        await hub_env.controller.admin_actions.drain("GPU-1", by="root", reason="loud")
        await watcher.until(lambda told: told["devices"][1]["state"] == "drained")
        drain = watcher.map["devices"][1]["drain"]
        assert (drain["reason"], drain["by"]) == ("loud", "root")
        assert watcher.map["kinds"] == [{"mig_profile": None, "total": 2, "free": 0, "drained": 1}]
        await wait_in_queue(hub_env, "bob")
        await watcher.until(lambda told: told["queue"])
        (waiter,) = watcher.map["queue"]
        assert (waiter["user"], waiter["position"], waiter["gpus"]) == ("bob", 1, 1)
        assert waiter["starts_at"]


async def test_what_is_out_or_silent_is_unknown_and_stays_on_the_map(
    hub_env: HubEnvironment,
) -> None:
    hub_env.agent.read(1, temperature_celsius=40)
    async with watching(hub_env, "alice") as watcher:
        await watcher.until(lambda told: told["devices"][1]["temperature_celsius"] == 40)
        hub_env.agent.set(0, xid=79, xid_at=5.0)
        await watcher.until(lambda told: told["devices"][0]["state"] == "quarantined")
        hub_env.agent.set(1, health=GpuHealth.UNKNOWN)
        await watcher.until(lambda told: told["devices"][1]["state"] == "unknown")
        hub_env.agent.set(1, health=GpuHealth.OK)
        await watcher.until(lambda told: told["devices"][1]["state"] == "free")
        hub_env.agent.is_silent = True
        await watcher.until(lambda told: told["error"])
        assert watcher.map["devices"][1]["state"] == "unknown"
        assert watcher.map["devices"][1]["temperature_celsius"] is None
        assert watcher.map["kinds"] == []
        hub_env.agent.is_silent = False
        await watcher.until(lambda told: told["error"] is None)
        assert watcher.map["devices"][1]["temperature_celsius"] == 40


async def test_the_agent_is_requested_once_for_all_and_not_without_a_viewer(
    hub_env: HubEnvironment,
) -> None:
    async def count(seconds: float) -> int:
        before = hub_env.agent.asked_samples
        await asyncio.sleep(seconds)
        return hub_env.agent.asked_samples - before

    async with (
        watching(hub_env, "alice") as alice,
        watching(hub_env, "bob") as bob,
        watching(hub_env, "carol") as carol,
    ):
        for one in (alice, bob, carol):
            await one.next_event()
        assert await count(3.0) <= 4
    assert await count(1.2) <= 1, "the look that was under way"
    assert await count(1.5) == 0


async def test_a_hub_that_ends_ends_the_stream_and_the_next_goes_on(
    hub_env: HubEnvironment,
) -> None:
    async with watching(hub_env, "alice") as watcher:
        await watcher.next_event()
        await hub_env.close_hub()
        with pytest.raises((EOFError, httpx.HTTPError)):
            while True:
                await watcher.next_event()
    await hub_env.open_hub()
    async with watching(hub_env, "alice") as watcher:
        await watcher.until(lambda told: told["devices"])


async def test_a_stream_ends_after_a_while(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_STREAM_SECONDS", 0.5)
    async with watching(hub_env, "alice") as watcher:
        with pytest.raises(EOFError):
            while True:
                await watcher.next_event()


async def test_a_stream_ends_with_the_log_in(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "CHECK_SECONDS", 0.2)
    async with hub_env.browser() as browser, hub_env.browser() as other:
        await join(hub_env, browser, "alice")
        await join(hub_env, other, "bob")
        async with browser.stream("GET", STREAM) as ending, other.stream("GET", STREAM) as going_on:
            alice, bob = Watcher(ending), Watcher(going_on)
            await alice.until(lambda told: told["devices"])
            assert (await browser.get("/hub/logout")).status_code == 302
            with pytest.raises(EOFError):
                while True:
                    await alice.next_event()
            await asyncio.sleep(0.5)
            for _ in range(3):
                await bob.next_event()


async def test_a_stream_ends_with_the_token(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "CHECK_SECONDS", 0.2)
    async with watching(hub_env, "alice") as watcher:
        await watcher.next_event()
        for token in hub_env.user("alice").orm_user.api_tokens:
            hub_env.hub.db.delete(token)
        hub_env.hub.db.commit()
        with pytest.raises(EOFError):
            while True:
                await watcher.next_event()


async def test_who_may_view(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        assert (await browser.get(STREAM)).status_code == 403
        assert (await browser.get("/hub/gpus")).status_code == 302
        token = hub_env.user("alice").new_api_token(scopes=["read:users:name!user"])
        headers = {"Authorization": f"token {token}"}
        assert (await browser.get(STREAM, headers=headers)).status_code == 403


# --- the page


async def test_the_page_shows_it_before_the_stream_does(hub_env: HubEnvironment) -> None:
    hub_env.be_brisk()
    hub_env.agent.read(0, memory_used_bytes=8 * GIB, temperature_celsius=55, utilization_percent=90)
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        await start(hub_env, "alice", {"gpus": 1})
        await hub_env.controller.admin_actions.drain("GPU-1", by="root", reason="loud")
        await wait_in_queue(hub_env, "bob")
        page = parse((await browser.get("/hub/gpus")).text)
        own, other = (" ".join(tile.text.split()) for tile in page.select(".wb-tile"))
        for said in ("GPU 0 In use", "simulated", "8.0 / 80 GiB", "90 %", "55 °C", "you"):
            assert said in own
        assert "GPU 1 Drained" in other
        assert "Memory unknown Load unknown" in other
        assert "? °C" in other
        (waiter,) = page.select("#wb-waiters > li")
        assert " ".join(waiter.text.split()).startswith("1 bob · 1 GPU for 1 h about ")
        assert page.select("[data-order]") == [], "orders are an admin's"
        assert attribute(one(page, "#wb-map"), "data-may").strip() == ""
        assert len(page.select(".wb-week rect")) == 7
        assert not [
            tag for tag in page.find_all(True) if any(a.startswith("on") for a in tag.attrs)
        ]
        for tag, at in (("script", "src"), ("link", "href")):
            (found,) = (attribute(t, at) for t in page.select(f"{tag}[{at}*='workbench/static']"))
            assert (await browser.get(found)).status_code == 200
        assert "GPUs" in [a.text for a in page.select('.navbar a[href="/hub/gpus"]')]
    async with admin(hub_env) as browser:
        page = parse((await browser.get("/hub/gpus")).text)
        assert attribute(one(page, "#wb-map"), "data-may").split() == ["gpus", "queue", "leases"]
        assert [b["data-order"] for b in page.select("#wb-waiters button")] == [
            "first", "last", "remove",
        ]  # fmt: skip


async def test_the_page_without_gpus_and_without_an_answer(hub_env: HubEnvironment) -> None:
    async with hub_env.browser() as browser:
        await join(hub_env, browser, "alice")
        hub_env.agent.is_silent = True
        page = await browser.get("/hub/gpus")
        assert "The gpu-agent does not answer." in page.text
        assert "The GPUs are not known yet." in page.text
        hub_env.agent.is_silent = False
        hub_env.agent.gpus.clear()
        await asyncio.sleep(1)  # a shared answer is at most so old
        page = await browser.get("/hub/gpus")
        assert "This workbench has no GPU." in page.text


class TestWithoutNames:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(ledger_url=f"sqlite:///{tmp_path}/ledger.sqlite", show_queue_names=False)

    async def test_nobody_but_admins_is_told_names(self, hub_env: HubEnvironment) -> None:
        hub_env.be_brisk()
        await start(hub_env, "alice", {"gpus": 2})
        await wait_in_queue(hub_env, "bob", "carol")
        await hub_env.controller.admin_actions.drain("GPU-1", by="root", reason="loud")
        async with (
            watching(hub_env, "bob") as bob,
            watching(hub_env, "root", is_admin=True) as root,
        ):
            await bob.until(lambda told: told["devices"])
            await root.until(lambda told: told["devices"])
            told = json.dumps([bob.map, bob.own])
            assert not [name for name in ("alice", "bob", "carol", "root") if f'"{name}"' in told]
            assert bob.own["leases"] == [lease_of(hub_env, "bob").id]
            assert root.map["devices"][0]["holder"] == "alice"
            assert [one["user"] for one in root.map["queue"]] == ["bob", "carol"]


# --- who is slow


class SlowChannel:
    """A connection that takes nothing until it is opened."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.is_dropped = False
        self.last: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, data: bytes) -> asyncio.Future[None]:
        self.sent.append(data)
        self.last = asyncio.get_running_loop().create_future()
        return self.last

    def drop(self) -> None:
        self.is_dropped = True


def make_map(at: int, *tiles: object) -> MapJson:
    """Return a map with parts of some tiles only."""
    return cast(MapJson, {"at": str(at), "error": None, "devices": list(tiles)})


def frames(number: int) -> list[Frame]:
    maps = [make_map(index, {"uuid": "a", "index": index}) for index in range(number)]
    return [Frame(told, maps[index - 1] if index else None) for index, told in enumerate(maps)]


async def test_who_is_slow_gets_one_whole_map_later_and_no_queue() -> None:
    channel = SlowChannel()
    viewer = Subscriber("alice", channel, sees_names=True)
    told = frames(5)
    for index, frame in enumerate(told[:4]):
        viewer.send_frame(frame, EMPTY_OWN, float(index))
    assert len(channel.sent) == 1
    channel.last.set_result(None)
    viewer.send_frame(told[4], EMPTY_OWN, 4.0)
    assert channel.sent[1] == told[4].snapshot() != told[4].delta()
    assert not channel.is_dropped


async def test_who_does_not_read_at_all_is_let_go() -> None:
    channel = SlowChannel()
    viewer = Subscriber("alice", channel, sees_names=True)
    viewer.send_frame(frames(1)[0], EMPTY_OWN, 0.0)
    for now in (1.0, feed.STALLED_SECONDS, feed.STALLED_SECONDS + 2.0):
        viewer.send_heartbeat(now)
    assert channel.is_dropped
    assert len(channel.sent) == 1


async def test_everyone_is_sent_the_same_bytes(hub_env: HubEnvironment) -> None:
    channels = [SlowChannel() for _ in range(3)]
    shown = Feed(hub_env.workbench)
    for number, channel in enumerate(channels):
        shown.subscribe(Subscriber(f"user-{number}", channel, sees_names=True))
    await eventually(lambda: all(channel.sent for channel in channels), "they are told")
    first, *others = (channel.sent[0] for channel in channels)
    assert others == [first, first]
    assert shown.subscriber_count == 3


def test_changes_make_the_one_map_of_the_other() -> None:
    before = make_map(1, {"uuid": "a", "index": 1, "title": "x"}, {"uuid": "b", "index": 1})
    after = make_map(2, {"uuid": "a", "index": 1, "title": "y"}, {"uuid": "b", "index": 1})
    assert diff_maps(before, after) == {"at": "2", "devices": {"0": {"title": "y"}}}
    assert diff_maps(after, after) == {}
    assert diff_maps(before, make_map(2, {"uuid": "b", "index": 1})) is None
