"""A controller with a real ledger and a real Docker client, before an Engine that fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from spawner.catalog import Catalog
from spawner.clock import Clock
from spawner.containers import Containers, Timeouts
from spawner.controller import Controller
from spawner.ledger import Ledger
from spawner.model import Gpu, GpuHealth, Granted, Lease, LeaseState, Unknown, Waiting
from spawner.policy import names
from spawner.policy.container import build_server
from spawner.settings import Settings
from testing.eventually import eventually
from testing.factories import make_account, make_gpu, make_release, make_request
from testing.fakes.docker_engine import FakeEngine

SETTINGS = Settings()
RELEASE = make_release()
CATALOG = Catalog("v2.7", {"v2.7": RELEASE})
IMAGE_ID = "sha256:1"
QUICK = Timeouts(request_seconds=2.0, launch_seconds=3.0, prepare_seconds=3.0, remove_seconds=0.3)
BEGAN_AT = 1000.0


class Host:
    """A host with GPUs, whose agent falls silent on demand."""

    def __init__(self, gpus: int = 2) -> None:
        self.is_silent = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.gpus = [make_gpu(index) for index in range(gpus)]

    async def inventory(self) -> tuple[Gpu, ...]:
        await self.may_answer.wait()
        return await self.last_inventory()

    async def last_inventory(self) -> tuple[Gpu, ...]:
        if self.is_silent:
            raise Unknown("The GPU agent does not answer.")
        return tuple(self.gpus)

    def lose(self, index: int) -> None:
        self.gpus[index] = make_gpu(index, GpuHealth.LOST)

    def fail(self, index: int, at: float = 5.0) -> None:
        """Let the driver report a fatal Xid."""
        self.gpus[index] = replace(self.gpus[index], xid=79, xid_at=at)


class ControllerEnvironment:
    """Everything the controller works with; its clock moves only when a test moves it."""

    def __init__(self, engine: FakeEngine, folder: Path) -> None:
        self.engine = engine
        engine.images[RELEASE.image] = IMAGE_ID
        self.host = Host()
        self.uptime = BEGAN_AT
        self.wall_jump = 0.0
        self.url = f"sqlite:///{folder / 'ledger.sqlite'}"
        self.ledger = Ledger.open(self.url, first_uid=SETTINGS.first_uid)
        self.containers = Containers(str(engine.socket_path), SETTINGS.instance, QUICK)
        self.controller = self.restart_hub()

    def restart_hub(self) -> Controller:
        """Forget all that was in memory."""
        self.clock = Clock(
            self.ledger,
            boot_id=lambda: "boot",
            boottime=lambda: self.uptime,
            wall=lambda: self.uptime + self.wall_jump,
        )
        self.controller = Controller(
            self.ledger, self.host, self.containers, CATALOG, SETTINGS, self.clock
        )
        return self.controller

    async def acquire(self, user: str = "alice", gpus: int = 1, server: str = "") -> Lease:
        """Return the lease that a request was given, waiting or granted."""
        answer = await self.controller.acquire(make_request(user, gpus, server))
        assert isinstance(answer, Granted | Waiting), answer
        return answer.lease

    async def granted(self, user: str = "alice", gpus: int = 1) -> Lease:
        lease = await self.acquire(user, gpus)
        assert lease.state is LeaseState.GRANTED
        return lease

    async def waiting(self, user: str, gpus: int = 1) -> Lease:
        lease = await self.acquire(user, gpus)
        assert lease.state is LeaseState.WAITING
        self.uptime += 0.001  # the next request is later
        return lease

    async def launch(self, lease: Lease) -> Lease:
        await self.controller.launch(lease, {}, lambda _percent, _step: None)
        await self.controller.confirm(lease.id)
        return self.read(lease)

    async def running(self, user: str = "alice", gpus: int = 1) -> Lease:
        return await self.launch(await self.granted(user, gpus))

    def read(self, lease: Lease) -> Lease:
        found = self.ledger.lease(lease.id)
        assert found is not None
        return found

    def state(self, lease: Lease) -> LeaseState:
        return self.read(lease).state

    def quarantined(self) -> list[str]:
        return [quarantine.gpu_uuid for quarantine in self.ledger.quarantines()]

    def in_line(self) -> list[str]:
        return [entry.lease.user for entry in self.controller.queue()]

    def container(self, lease: Lease) -> str:
        return names.container_name(SETTINGS.instance, lease)

    def put(self, lease: Lease, *, is_running: bool) -> str:
        """Let a container of ``lease`` exist that this hub did not make."""
        name = self.container(lease)
        body = build_server(
            lease,
            make_account(lease),
            instance=SETTINGS.instance,
            image_id=IMAGE_ID,
            limits=SETTINGS.limits,
            environment={},
        )
        self.engine.add(name, body, is_running=is_running)
        return name


async def run_until(
    awaitable: Awaitable[object], is_so: Callable[[], bool], within_seconds: float = 5.0
) -> None:
    """Run something that never ends until ``is_so()``."""
    task = asyncio.ensure_future(awaitable)
    try:
        await eventually(is_so, seconds=within_seconds)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
