"""One look at the GPUs a second for everyone who looks at them, and the same bytes to each.

Nobody is asked while nobody looks. Who is slow to read gets no queue of their own: they miss changes, get the whole
map once they have read what they had, and are let go when they do not read at all.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from spawner.gpus import GpuSample
from spawner.hub.single_flight import SingleFlight
from spawner.hub.views.gpu_map import (
    EMPTY_OWN,
    Json,
    MapSnapshot,
    build_map,
    build_own_leases,
    diff_maps,
)
from spawner.hub.workbench import Workbench
from spawner.model import Gpu, Unknown

log = logging.getLogger("workbench.feed")

PERIOD_SECONDS = 1.0
HEARTBEAT_SECONDS = 5.0
JITTER_SECONDS = 0.5
HEARTBEAT = b": still here\n\n"
STUCK_SECONDS = 30.0
"""Who has not read for this long is let go."""


class Channel(Protocol):
    """How bytes get to somebody who looks."""

    def send(self, data: bytes) -> asyncio.Future[Any]:
        """Send ``data``; done once it has left, whether or not it arrived."""

    def drop(self) -> None:
        """End the connection: they may come again."""


class Subscriber:
    """One who looks: ``sees_names`` as far as the settings allow."""

    def __init__(self, name: str, channel: Channel, *, sees_names: bool) -> None:
        """Send nothing yet."""
        self.name = name
        self.sees_names = sees_names
        self._channel = channel
        self._sending: asyncio.Future[Any] | None = None
        self._stuck_since: float | None = None
        self._is_behind = True
        self._own: Json | None = None

    def tell(self, frame: Frame, own: Json, now: float) -> None:
        """Send what is new to them, unless they still read what they had."""
        if not self._is_reading(now):
            return
        data = frame.whole() if self._is_behind else frame.changes
        if own != self._own:
            data = _event("own", own) + data
        self._is_behind, self._own = False, own
        self._sending = self._channel.send(data)

    def beat(self, now: float) -> None:
        """Show that there is still somebody at this end."""
        if self._is_reading(now):
            self._sending = self._channel.send(HEARTBEAT)

    def drop(self) -> None:
        """Let them go."""
        self._channel.drop()

    def _is_reading(self, now: float) -> bool:
        if self._sending is None or self._sending.done():
            self._stuck_since = None
            return True
        self._is_behind = True
        if self._stuck_since is None:
            self._stuck_since = now
        elif now - self._stuck_since > STUCK_SECONDS:
            self.drop()
        return False


class Frame:
    """What one look has for everyone who sees names, or for everyone who does not."""

    def __init__(self, told: Json, before: Json | None) -> None:
        """Make the bytes of what changed since ``before``; those of the whole map once somebody needs them."""
        self.told = told
        self._whole: bytes | None = None
        changes = None if before is None else diff_maps(before, told)
        self.changes = self.whole() if changes is None else _event("changes", changes)

    def whole(self) -> bytes:
        """Return the bytes of the whole map."""
        if self._whole is None:
            self._whole = _event("map", self.told)
        return self._whole


class Feed:
    """Everyone who looks at the GPUs of one workbench."""

    def __init__(self, workbench: Workbench) -> None:
        """Ask nobody yet."""
        self._workbench = workbench
        self._viewers: set[Subscriber] = set()
        self._is_running = False
        self._gpus: tuple[Gpu, ...] = ()
        self._host: str | None = None
        self._ahead = 0.0
        self.look = SingleFlight(self._look, PERIOD_SECONDS / 2)
        """How everything stands now, asked once for all who want to know."""

    @property
    def viewers(self) -> int:
        """Return how many look."""
        return len(self._viewers)

    def join(self, viewer: Subscriber) -> None:
        """Tell ``viewer`` from now on."""
        self._viewers.add(viewer)
        if not self._is_running:
            self._is_running = True
            self._workbench.run_in_background(self._run())

    def leave(self, viewer: Subscriber) -> None:
        """Tell ``viewer`` no more."""
        self._viewers.discard(viewer)

    async def _run(self) -> None:
        """Tell everyone, once a second, for as long as anybody looks; at the end, whichever, nobody is kept."""
        loop = asyncio.get_running_loop()
        last: dict[bool, Json] = {}
        try:
            while self._viewers:
                began = loop.time()
                last = self._tell(await self._look_patiently(), last)
                await asyncio.sleep(max(0.0, began + PERIOD_SECONDS - loop.time()))
        except Exception:  # they come again, and so does this
            log.exception("The GPUs cannot be shown live")
        finally:
            self._is_running = False
            for viewer in tuple(self._viewers):
                viewer.drop()

    async def _look_patiently(self) -> MapSnapshot:
        """Return how everything stands; those who look see meanwhile that somebody is there."""
        looking = asyncio.ensure_future(self.look())
        while not (await asyncio.wait({looking}, timeout=HEARTBEAT_SECONDS))[0]:
            for viewer in tuple(self._viewers):
                viewer.beat(asyncio.get_running_loop().time())
        return looking.result()

    def _tell(self, seen: MapSnapshot, last: Mapping[bool, Json]) -> dict[bool, Json]:
        audiences = {viewer.sees_names for viewer in self._viewers}
        frames = {
            names: Frame(build_map(seen, names=names), last.get(names)) for names in audiences
        }
        own, now = build_own_leases(seen), asyncio.get_running_loop().time()
        for viewer in tuple(self._viewers):
            viewer.tell(frames[viewer.sees_names], own.get(viewer.name, EMPTY_OWN), now)
        return {names: frame.told for names, frame in frames.items()}

    def _find_ahead(self) -> float:
        """Return how far the wall clock is ahead; no jitter of two readings may move all times to and fro."""
        ahead = self._workbench.clock.to_wall(0.0)
        if abs(ahead - self._ahead) > JITTER_SECONDS:
            self._ahead = ahead
        return self._ahead

    async def _look(self) -> MapSnapshot:
        workbench = self._workbench
        error: str | None = None
        samples: Mapping[str, GpuSample] = {}
        try:
            self._gpus = await workbench.gpus.inventory()
            self._host = workbench.gpus.host
            samples = await workbench.gpus.samples()
        except Unknown as unknown:
            error = str(unknown)
        return MapSnapshot(
            host=self._host,
            gpus=self._gpus,
            samples=samples,
            standing=await workbench.recent(),
            line=_in_order(workbench),
            error=error,
            ahead=self._find_ahead(),
        )


def _in_order(workbench: Workbench) -> tuple[Any, ...]:
    line = workbench.controller.queue()
    return tuple(sorted(line, key=lambda at: (at.lease.mig_profile or "", at.place.position)))


def _event(kind: str, value: Json) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
