"""The parts that the hub's pages and spawners share, and the tasks that run beside the hub.

They run for as long as the hub does; an error ends none of them silently.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Protocol
from weakref import WeakValueDictionary

from spawner.catalog import Catalog
from spawner.clock import Clock
from spawner.controller import Controller
from spawner.controller.queue import Inventory
from spawner.hub.metrics import Metrics
from spawner.hub.single_flight import SingleFlight
from spawner.idle import IdleTracker
from spawner.ledger import Ledger, LedgerSnapshot
from spawner.model import Lease, Options
from spawner.policy.options import parse_options
from spawner.sampling import Samples, GpuSampler
from spawner.settings import Settings

log = logging.getLogger("workbench.hub")

RESTART_SECONDS = 5.0
RECENT_SECONDS = 1.0
LISTED_SECONDS = 5.0
MAX_CONCURRENT_LAUNCHES = 16


class GpuHost(Inventory, Samples, Protocol):
    """Who knows the host's GPUs and how they are; raises Unknown."""

    @property
    def host(self) -> str | None:
        """What the host calls itself, None before it was asked."""


class Runnable(Protocol):
    """What goes on for as long as the hub does."""

    async def run(self) -> None:
        """Go on for ever."""


class Server(Protocol):
    """One server of one user, as the hub has it in hand."""

    async def notice_end(self) -> None:
        """Let JupyterHub look at a server that may have ended."""

    def has_been_opened(self) -> bool:
        """Return whether its user came for it after its turn."""


class Workbench:
    """What spawners and pages need of the rest of the package; belongs to one event loop.

    ``offered`` is what of the catalog people can choose now; whoever holds another release keeps it.
    ``launch_slots`` bounds how many containers are being started at once; who waits in line is not counted.
    ``servers`` are those that this process has in hand, by (user, server); ``beside`` are the tasks beside the hub;
    ``closed_listeners`` are told of each lease whose container was seen gone.
    ``recent()`` is how things stood within the last second, and ``running()`` the leases whose containers Docker listed
    as running within the last few: however many want to know, one asks. Both raise Unknown.
    """

    def __init__(
        self,
        controller: Controller,
        ledger: Ledger,
        gpus: GpuHost,
        clock: Clock,
        catalog: Catalog,
        settings: Settings,
    ) -> None:
        """Join the parts; nothing is asked yet."""
        self.controller = controller
        self.ledger = ledger
        self.gpus = gpus
        self.clock = clock
        self.offered = catalog.choose(settings.releases)
        self.settings = settings
        self.gpu_sampler = GpuSampler(ledger, gpus, clock, settings.sample_period_seconds)
        self.idle_tracker = IdleTracker(settings.idle, self._live, settings.sample_period_seconds)
        self.metrics = Metrics(ledger, settings.sample_period_seconds)
        self.gpu_sampler.listeners += [self.idle_tracker.update, self.metrics.update]
        self.launch_slots = asyncio.Semaphore(MAX_CONCURRENT_LAUNCHES)
        self.servers: WeakValueDictionary[tuple[str, str], Server] = WeakValueDictionary()
        self.service_token = _make_service_token()
        self.background_tasks: set[asyncio.Task[None]] = set()
        self._was_cancelled = False
        controller.on_closed = self._tell_closed
        controller.has_been_opened = self._has_been_opened
        self.closed_listeners: list[Callable[[Lease], None]] = []
        self.recent = SingleFlight(self._read, RECENT_SECONDS)
        self.running = SingleFlight(controller.running, LISTED_SECONDS)

    def parse(self, raw: object) -> Options:
        """Return the options in ``raw`` by the one closed schema; raises OptionsError."""
        return parse_options(
            raw, releases=tuple(self.offered.releases), default_release=self.offered.default
        )

    async def notify_ended(self, user: str, server: str) -> None:
        """Let the hub learn at once that a lease ended, instead of at its next poll."""
        known = self.servers.get((user, server))
        if known is not None:
            await known.notice_end()

    def run_in_background(self, *works: Coroutine[Any, Any, None]) -> None:
        """Start ``works`` and remember them until they end; the loop alone would not keep them alive."""
        for work in works:
            task = asyncio.ensure_future(work)
            self.background_tasks.add(task)
            task.add_done_callback(self._forget)

    @property
    def is_shutting_down(self) -> bool:
        """True once the hub's process ends, which cancels every task: no cancellation is a person's wish then."""
        return self._was_cancelled or any(task.cancelling() for task in self.background_tasks)

    async def _read(self) -> LedgerSnapshot:
        return await asyncio.to_thread(self.ledger.snapshot, now=self.clock())

    async def _live(self) -> tuple[Lease, ...]:
        return await asyncio.to_thread(self.ledger.live_leases)

    def _has_been_opened(self, lease: Lease) -> bool:
        known = self.servers.get((lease.user, lease.server))
        return known is not None and known.has_been_opened()

    def _tell_closed(self, lease: Lease) -> None:
        self.run_in_background(self.notify_ended(lease.user, lease.server))
        for listener in self.closed_listeners:
            listener(lease)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self.background_tasks.discard(task)
        self._was_cancelled |= task.cancelled()


def _make_service_token() -> str:
    """Return a secret of this installation: JupyterHub keeps every token it was ever given, so it gets but one."""
    proxy_token = os.environ.get("CONFIGPROXY_AUTH_TOKEN") or secrets.token_hex(32)
    return hmac.new(proxy_token.encode(), b"waiting-room", "sha256").hexdigest()


async def supervise(part: Runnable) -> None:
    """Run ``part`` for ever; an error that ends it is logged and it begins anew."""
    name = type(part).__name__
    while True:
        try:
            await part.run()
        except Exception:  # whatever it was, leases must go on being closed
            log.exception("The %s failed; it starts again in %g s", name, RESTART_SECONDS)
        else:
            log.error("The %s ended; it starts again in %g s", name, RESTART_SECONDS)
        await asyncio.sleep(RESTART_SECONDS)
