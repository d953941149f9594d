"""Workbench: holds the objects that the hub's pages and spawners share, and the hub's background tasks.

A background task runs as long as the hub; an error that ends one is logged, and the task restarts.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from spawner.catalog import Catalog
from spawner.clock import Clock
from spawner.controller import Controller
from spawner.controller.queue import Inventory
from spawner.hub.disk import DiskWatch
from spawner.hub.launch_slots import LaunchSlots
from spawner.hub.metrics import Metrics
from spawner.hub.server_notices import ServerNotices
from spawner.hub.single_flight import SingleFlight
from spawner.hub.start_rate import StartRate
from spawner.idle import IdleTracker
from spawner.ledger import Ledger, LedgerSnapshot
from spawner.model import Lease, Options
from spawner.policy.bounds import Bounds
from spawner.policy.options import parse_options
from spawner.sampling import GpuSampler, SampleSource
from spawner.settings import Settings

log = logging.getLogger(__name__)

RESTART_SECONDS = 5.0
SNAPSHOT_MAX_AGE_SECONDS = 1.0
RUNNING_MAX_AGE_SECONDS = 5.0


class GpuHost(Inventory, SampleSource, Protocol):
    """The GPU agent of one host: inventory and samples; raises Unknown."""

    @property
    def host(self) -> str | None:
        """The host's own name, None before the first answer."""


class Runnable(Protocol):
    """A part with a loop that runs as long as the hub."""

    async def run(self) -> None:
        """Run until cancelled."""


class Server(Protocol):
    """The spawner of one server, registered in ``Workbench.servers``."""

    async def notice_end(self) -> None:
        """Make JupyterHub poll a server that may have ended."""

    def has_been_opened(self) -> bool:
        """Return whether the user has used the server since its GPUs were granted."""


class Workbench:
    """The services that spawners and pages use; belongs to one event loop.

    ``offered`` is the part of the catalog that users can choose; a lease of another release keeps it.
    ``disk`` knows the free space and the sizes of homes. ``start_rate`` bounds the starts of each user.
    ``server_notices`` has what servers say about themselves.
    ``launch_slots`` bounds the containers that start at once, of all users and of one; a queued request takes none.
    ``servers`` are the spawners of this process by (user, server). ``closed_listeners`` receive each lease whose
    container is proven gone.
    ``ledger_snapshot()`` is the ledger's state, at most a second old. ``running_leases()`` are the ids of leases with
    a running container, at most five seconds old. Both share one query between all callers, and raise Unknown.
    """

    def __init__(
        self,
        controller: Controller,
        ledger: Ledger,
        gpus: GpuHost,
        clock: Clock,
        catalog: Catalog,
        settings: Settings,
        disk_folder: Path,
    ) -> None:
        """Connect the objects; no request is sent yet. ``disk_folder`` is on the file system of Docker's volumes."""
        self.controller = controller
        self.ledger = ledger
        self.gpus = gpus
        self.clock = clock
        self.offered = catalog.choose(settings.releases)
        self.settings = settings
        self.bounds = Bounds()
        """The limits of the extras of leases; ``configure_site`` reads them."""
        self.gpu_sampler = GpuSampler(ledger, gpus, clock, settings.sample_period_seconds)
        self.idle_tracker = IdleTracker(settings.idle, self._live, settings.sample_period_seconds)
        self.metrics = Metrics(ledger, settings.sample_period_seconds)
        self.gpu_sampler.listeners += [self.idle_tracker.update, self.metrics.update]
        self.disk = DiskWatch(
            ledger, controller.homes, clock, settings.home_quota_bytes, disk_folder
        )
        self.server_notices = ServerNotices()
        self.start_rate = StartRate(settings.starts_per_hour)
        self.launch_slots = LaunchSlots()
        self.servers: WeakValueDictionary[tuple[str, str], Server] = WeakValueDictionary()
        self.service_token = _make_service_token()
        self.background_tasks: set[asyncio.Task[None]] = set()
        self._was_cancelled = False
        controller.on_closed = self._on_lease_closed
        controller.has_been_opened = self._has_been_opened
        self.closed_listeners: list[Callable[[Lease], None]] = []
        self.ledger_snapshot = SingleFlight(self._read_ledger, SNAPSHOT_MAX_AGE_SECONDS)
        self.running_leases = SingleFlight(controller.running, RUNNING_MAX_AGE_SECONDS)

    def parse(self, raw: object) -> Options:
        """Return ``raw`` as options, validated by the schema of ``policy.options``; raises OptionsError."""
        return parse_options(
            raw, releases=tuple(self.offered.releases), default_release=self.offered.default
        )

    async def notify_ended(self, user: str, server: str) -> None:
        """Make the hub notice the end of a lease at once, instead of at its next poll."""
        known = self.servers.get((user, server))
        if known is not None:
            await known.notice_end()

    def run_in_background(self, *coroutines: Coroutine[Any, Any, None]) -> None:
        """Start ``coroutines`` as tasks, and keep references: the event loop holds only weak ones."""
        for coroutine in coroutines:
            task = asyncio.ensure_future(coroutine)
            self.background_tasks.add(task)
            task.add_done_callback(self._forget)

    @property
    def is_shutting_down(self) -> bool:
        """True once the hub's process ends; a cancellation is then no request of a user."""
        return self._was_cancelled or any(task.cancelling() for task in self.background_tasks)

    async def _read_ledger(self) -> LedgerSnapshot:
        return await asyncio.to_thread(self.ledger.snapshot, now=self.clock())

    async def _live(self) -> tuple[Lease, ...]:
        return await asyncio.to_thread(self.ledger.live_leases)

    def _has_been_opened(self, lease: Lease) -> bool:
        known = self.servers.get((lease.user, lease.server))
        return known is not None and known.has_been_opened()

    def _on_lease_closed(self, lease: Lease) -> None:
        self.run_in_background(self.notify_ended(lease.user, lease.server))
        for listener in self.closed_listeners:
            listener(lease)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self.background_tasks.discard(task)
        self._was_cancelled |= task.cancelled()


def _make_service_token() -> str:
    """Return a token from a key that only the hub has.

    JupyterHub stores every token it is given, so the token stays the same for this installation.
    """
    key = os.environ.get("JUPYTERHUB_CRYPT_KEY") or secrets.token_hex(32)
    return hmac.new(key.encode(), b"queue", "sha256").hexdigest()


async def supervise(part: Runnable) -> None:
    """Run ``part`` until cancelled; when it ends, log the cause and restart it."""
    name = type(part).__name__
    while True:
        try:
            await part.run()
        except Exception:  # any cause: leases must still be closed
            log.exception("task=%s state=failed restart_seconds=%g", name, RESTART_SECONDS)
        else:
            log.error("task=%s state=ended restart_seconds=%g", name, RESTART_SECONDS)
        await asyncio.sleep(RESTART_SECONDS)
