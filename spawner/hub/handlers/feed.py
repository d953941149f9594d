"""Live feed: samples the GPUs once a second and sends the same bytes to every open GPU page.

Without subscribers nothing is sampled, and a slow subscriber costs no memory.

The problem
-----------
Every open GPU page shows every GPU, second by second. The work would grow with GPUs times pages if each page built
and sent the whole map each second.

The rules
---------
1. *One sampler.* The first subscriber starts the loop ``Feed._run``, and the loop ends with the last one. Each round
   takes one ``MapSnapshot``: readings from the agent, leases from the ledger, positions from the queue. The page
   itself calls ``Feed.snapshot`` too, and shares an answer that is at most half a period old.
2. *Two audiences.* The settings, or being an admin, decide whether a viewer sees names. So at most two maps exist per
   round, with and without names. A ``Frame`` holds the events of one audience, and all its subscribers get the same
   ``bytes`` object.
3. *Deltas, and a snapshot after a gap.* A delta is the change since the previous round, so it is valid only for a map
   of that round. A new subscriber gets a snapshot, the whole map; so does one that missed a frame. When the list of
   GPUs itself changes, the delta of that frame is the snapshot, because a delta names GPUs by their index.
4. *Patience without a queue.* A subscriber has at most one write pending. Until that write is done it misses frames,
   and nothing is stored for it. A write that is pending for ``STALLED_SECONDS`` means that the browser no longer
   reads: the connection is closed. A browser that is still there reconnects by itself.
5. *Never silent.* While the agent takes long to answer, a comment every ``HEARTBEAT_SECONDS`` shows the browser and
   the proxies that the hub is alive. It also finds the subscribers that have stalled.
6. *Names only by permission.* ``own`` is a separate event with the viewer's own leases and positions. It holds no
   names of other users, and it is sent only when it changes. So a viewer without permission still finds "you".

A worked example
----------------
Alice and Bob watch two GPUs. Bob is an admin and sees names. Alice's network stops for three seconds.

Second 0: both GPUs are free. Alice and Bob have just subscribed, and both get ``map``.

Second 1: carol gets GPU 0. Bob gets ``changes`` with ``"holder": "carol"``, Alice with ``"holder": "another user"``.

Second 2: GPU 0 reaches 61 °C. Both get ``changes``. Alice's write stays pending, because her network has stopped.

Second 3: an admin drains GPU 1. Bob gets ``changes``. Alice misses this frame.

Second 4: Alice's write is done. Bob gets ``changes``, in which only the time is new. Alice gets ``map``: a delta would
leave her GPU 1 "free".

If the agent answers with an error, the map carries its sentence in ``error``, and the last known GPUs without readings.
If the ledger fails, there is no map: the loop logs the cause and drops all subscribers, and their reconnect starts it
again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from spawner.controller.queue import QueueEntry
from spawner.gpus import GpuSample
from spawner.hub.schema.gpus import MapJson, OwnJson
from spawner.hub.single_flight import SingleFlight
from spawner.hub.views.gpu_map import (
    EMPTY_OWN,
    MapSnapshot,
    build_map,
    build_own_leases,
    diff_maps,
)
from spawner.hub.workbench import Workbench
from spawner.model import Gpu, Unknown

log = logging.getLogger(__name__)

PERIOD_SECONDS = 1.0
HEARTBEAT_SECONDS = 5.0
JITTER_SECONDS = 0.5
HEARTBEAT = b": heartbeat\n\n"
STALLED_SECONDS = 30.0
"""A write that is pending for longer means that the browser no longer reads."""


class Channel(Protocol):
    """A connection to one browser."""

    def send(self, data: bytes) -> asyncio.Future[Any]:
        """Send ``data``; the future is done once the connection took it or was lost."""

    def drop(self) -> None:
        """Close the connection; the browser may reconnect."""


class Subscriber:
    """One open GPU page: it gets deltas while it reads, a snapshot after it missed a frame."""

    def __init__(self, name: str, channel: Channel, *, sees_names: bool) -> None:
        """Start behind: the first frame is a whole map."""
        self.name = name
        self.sees_names = sees_names
        self._channel = channel
        self._sending: asyncio.Future[Any] | None = None
        self._pending_since: float | None = None
        self._needs_snapshot = True
        self._own: OwnJson | None = None

    def send_frame(self, frame: Frame, own: OwnJson, now: float) -> None:
        """Send the delta or the snapshot, unless the previous write is pending."""
        if not self._is_ready(now):
            return
        data = frame.snapshot() if self._needs_snapshot else frame.delta()
        if own != self._own:
            data = _encode_event("own", own) + data
        self._needs_snapshot, self._own = False, own
        self._sending = self._channel.send(data)

    def send_heartbeat(self, now: float) -> None:
        """Send a comment, unless the previous write is pending."""
        if self._is_ready(now):
            self._sending = self._channel.send(HEARTBEAT)

    def drop(self) -> None:
        """Close the connection."""
        self._channel.drop()

    def _is_ready(self, now: float) -> bool:
        """Return whether the previous write is done; drop the connection when it stalled."""
        if self._sending is None or self._sending.done():
            self._pending_since = None
            return True
        self._needs_snapshot = True
        if self._pending_since is None:
            self._pending_since = now
        elif now - self._pending_since > STALLED_SECONDS:
            self.drop()
        return False


class Frame:
    """One round for one audience: the map as an event, and its change since the previous round."""

    def __init__(self, current: MapJson, previous: MapJson | None) -> None:
        """Encode the delta now, because most subscribers need it; the snapshot on demand."""
        self.map = current
        self._snapshot: bytes | None = None
        changes = None if previous is None else diff_maps(previous, current)
        self._delta = None if changes is None else _encode_event("changes", changes)

    def snapshot(self) -> bytes:
        """Return the whole map as an event, encoded at most once."""
        if self._snapshot is None:
            self._snapshot = _encode_event("map", self.map)
        return self._snapshot

    def delta(self) -> bytes:
        """Return the change as an event; the snapshot where there is no valid delta."""
        return self.snapshot() if self._delta is None else self._delta


class Feed:
    """All subscribers of one workbench, and the loop that serves them."""

    def __init__(self, workbench: Workbench) -> None:
        """Start nothing; the first subscriber does."""
        self._workbench = workbench
        self._subscribers: set[Subscriber] = set()
        self._is_running = False
        self._gpus: tuple[Gpu, ...] = ()
        self._host: str | None = None
        self._clock_offset = 0.0
        self.snapshot = SingleFlight(self._take_snapshot, PERIOD_SECONDS / 2)
        """Call it for the current state, shared between the page and the loop."""

    @property
    def subscriber_count(self) -> int:
        """The number of open streams."""
        return len(self._subscribers)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Serve ``subscriber`` from the next round on."""
        self._subscribers.add(subscriber)
        if not self._is_running:
            self._is_running = True
            self._workbench.run_in_background(self._run())

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Stop serving ``subscriber``."""
        self._subscribers.discard(subscriber)

    async def _run(self) -> None:
        """Serve all subscribers once per period while there are any; whatever ends the loop drops the rest."""
        loop = asyncio.get_running_loop()
        maps: dict[bool, MapJson] = {}
        try:
            while self._subscribers:
                began = loop.time()
                maps = self._send_frames(await self._await_snapshot(), maps)
                await asyncio.sleep(max(0.0, began + PERIOD_SECONDS - loop.time()))
        except Exception:  # the browsers reconnect, which starts the loop again
            log.exception("GPU feed: state=stopped subscribers=%d", len(self._subscribers))
        finally:
            self._is_running = False
            for subscriber in tuple(self._subscribers):
                subscriber.drop()

    async def _await_snapshot(self) -> MapSnapshot:
        """Return the current state; send heartbeats while it takes long."""
        sampling = asyncio.ensure_future(self.snapshot())
        while not (await asyncio.wait({sampling}, timeout=HEARTBEAT_SECONDS))[0]:
            for subscriber in tuple(self._subscribers):
                subscriber.send_heartbeat(asyncio.get_running_loop().time())
        return sampling.result()

    def _send_frames(
        self, snapshot: MapSnapshot, previous: Mapping[bool, MapJson]
    ) -> dict[bool, MapJson]:
        """Send one frame to every subscriber; return the maps by whether they hold names."""
        audiences = {subscriber.sees_names for subscriber in self._subscribers}
        frames = {
            names: Frame(build_map(snapshot, names=names), previous.get(names))
            for names in audiences
        }
        own, now = build_own_leases(snapshot), asyncio.get_running_loop().time()
        for subscriber in tuple(self._subscribers):
            frame = frames[subscriber.sees_names]
            subscriber.send_frame(frame, own.get(subscriber.name, EMPTY_OWN), now)
        return {names: frame.map for names, frame in frames.items()}

    def _get_clock_offset(self) -> float:
        """Return the offset of the wall clock; small jitter is ignored, or every time would change each round."""
        offset = self._workbench.clock.to_wall(0.0)
        if abs(offset - self._clock_offset) > JITTER_SECONDS:
            self._clock_offset = offset
        return self._clock_offset

    async def _take_snapshot(self) -> MapSnapshot:
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
            ledger=await workbench.ledger_snapshot(),
            queue=_sort_entries(workbench),
            error=error,
            clock_offset=self._get_clock_offset(),
        )


def _sort_entries(workbench: Workbench) -> tuple[QueueEntry, ...]:
    entries = workbench.controller.queue()
    return tuple(
        sorted(entries, key=lambda entry: (entry.lease.mig_profile or "", entry.place.position))
    )


def _encode_event(kind: str, value: Mapping[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
