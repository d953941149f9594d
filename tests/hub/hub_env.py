"""A whole hub in one process: the product's configuration, spawner, controller, ledger and Docker client.

Faked are only the outside: the Docker Engine, the proxy's table, the agent, and the servers that would answer in the
containers.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from aiohttp import web
from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.httpclient import JupyterHubHTTPClient
from jupyterhub.proxy import Proxy
from jupyterhub.roles import assign_default_roles
from jupyterhub.user import User
from traitlets.config import Config

from spawner.catalog import load_catalog
from spawner.clock import Clock, read_boottime
from spawner.containers import Containers, Timeouts
from spawner.controller import Controller
from spawner.gpus import GpuSample
from spawner.hub.configure import configure, run_background_tasks
from spawner.hub.workbench import Workbench
from spawner.ledger import Ledger
from spawner.model import Gpu, GpuHealth, Lease, Unknown
from spawner.policy.names import container_name
from spawner.settings import Settings
from testing.fakes.docker_engine import FakeEngine
from testing.paths import ROOT
from testing.ports import free_port

IMAGE_ID = "sha256:1"
QUICK = Timeouts(request_seconds=2.0, launch_seconds=3.0, prepare_seconds=3.0, remove_seconds=0.2)
PASSWORD = "correct-horse-battery"


QUIET = {
    "memory_used_bytes": 0,
    "temperature_celsius": 40,
    "utilization_percent": 0,
    "power_watts": 60.0,
    "power_limit_watts": 400.0,
    "sm_clock_mhz": 210,
}
"""How a GPU is read that does nothing."""


class FakeAgent:
    """The host's inventory: ``gpus`` GPUs, or silence; ``readings`` has the known samples of now."""

    host = "gpu-host"

    def __init__(self, gpus: int) -> None:
        self.is_silent = False
        self.asked_samples = 0
        self.readings: dict[str, GpuSample] = {}
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.gpus = [
            Gpu(f"GPU-{i}", i, "NVIDIA A100-SXM4-80GB (simulated)", 80 * 1024**3, GpuHealth.OK)
            for i in range(gpus)
        ]

    def set(self, index: int, **changes: Any) -> None:
        """Let a GPU be otherwise, such as ``health=GpuHealth.LOST``."""
        self.gpus[index] = replace(self.gpus[index], **changes)

    async def inventory(self) -> tuple[Gpu, ...]:
        self.was_asked.set()
        await self.may_answer.wait()
        if self.is_silent:
            raise Unknown("The gpu-agent does not answer.")
        return tuple(self.gpus)

    async def last_inventory(self) -> tuple[Gpu, ...]:
        return await self.inventory()

    def read(self, index: int, **values: Any) -> None:
        """Let a GPU be read as these values, and unknown in all others."""
        gpu = self.gpus[index]
        self.readings[gpu.uuid] = make_sample(gpu, **values)

    def rest(self, index: int, **changes: Any) -> None:
        """Let a GPU do nothing, but for the ``changes``."""
        self.read(index, **{**QUIET, **changes})

    async def samples(self) -> dict[str, GpuSample]:
        self.asked_samples += 1
        if self.is_silent:
            raise Unknown("The gpu-agent does not answer.")
        return dict(self.readings)


def make_sample(gpu: Gpu, **values: Any) -> GpuSample:
    """Return a reading of ``gpu`` that knows ``values`` and nothing else."""
    known = {"uuid": gpu.uuid, "memory_total_bytes": gpu.memory_total_bytes, "health": gpu.health}
    # these UUIDs are short, so that tests can be read
    sample: GpuSample = object.__new__(GpuSample)
    sample.__dict__.update({**dict.fromkeys(QUIET), **known, "processes": (), **values})
    return sample


class Servers:
    """Servers: answer at port 8888 of every running container unless ``is_mute``.

    A container's name resolves only while it runs, as Docker's own name server has it.
    """

    def __init__(self, engine: FakeEngine, port: int) -> None:
        self.engine = engine
        self.port = port
        self.is_mute = False
        self._resolve = socket.getaddrinfo

    def getaddrinfo(self, host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if isinstance(name, str) and name.startswith("workbench-"):
            container = self.engine.containers.get(name)
            if self.is_mute or container is None or not container.is_running:
                raise socket.gaierror(socket.EAI_NONAME, f"no container {name}")
            host = "127.0.0.1"
        return self._resolve(host, *args, **kwargs)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response({}, headers={"X-JupyterHub-Version": "6.1.1"})

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield
        finally:
            await runner.cleanup()


class RouteTable(Proxy):  # type: ignore[misc]
    """A proxy that only remembers; ``should_start`` is the product's setting."""

    def __init__(self, **kwargs: Any) -> None:
        self.routes: dict[str, dict[str, Any]] = {}
        super().__init__(**kwargs)

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": data}

    async def delete_route(self, routespec: str) -> None:
        self.routes.pop(routespec, None)

    async def get_all_routes(self) -> dict[str, dict[str, Any]]:
        return self.routes


class HubInProcess(JupyterHub):  # type: ignore[misc]
    """The hub without what belongs to a process of its own: configuration file and signals."""

    def load_config_file(self, *_: Any, **__: Any) -> None:
        pass

    def init_signal(self) -> None:
        pass

    def _stop_event_loop(self) -> None:
        pass


class HubEnvironment:
    """The running hub and everything around it."""

    def __init__(
        self, folder: Path, engine: FakeEngine, agent: FakeAgent, settings: Settings
    ) -> None:
        self.folder = folder
        self.engine = engine
        self.agent = agent
        self.settings = settings
        self.skipped_seconds = 0.0
        self.port, server_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.servers = Servers(engine, server_port)
        self.ledger = Ledger.open(settings.ledger_url, first_uid=settings.first_uid)
        engine.images["pytorch-cuda:v2.7"] = IMAGE_ID

    async def open_hub(self, *, is_running: bool = True) -> None:
        """Start a hub on what the folder holds, as a container that was restarted does."""
        self.containers = Containers(str(self.engine.socket_path), self.settings.instance, QUICK)
        catalog = load_catalog(ROOT / "images/catalog.toml")
        clock = Clock(self.ledger, boottime=lambda: read_boottime() + self.skipped_seconds)
        self.controller = Controller(
            self.ledger, self.agent, self.containers, catalog, self.settings, clock
        )
        self.workbench = Workbench(
            self.controller,
            self.ledger,
            self.agent,
            clock,
            catalog,
            self.settings,
            self.folder,
        )
        config = Config()
        configure(config, self.settings, self.workbench, ROOT / "docs")
        config.JupyterHub.hub_bind_url = config.JupyterHub.hub_connect_url = self.url
        config.JupyterHub.db_url = f"sqlite:///{self.folder}/jupyterhub.sqlite"
        config.JupyterHub.cookie_secret_file = str(self.folder / "cookie_secret")
        config.JupyterHub.proxy_class = RouteTable
        config.RouteTable.should_start = False
        config.Spawner.port = self.servers.port
        config.Spawner.poll_interval = 600  # no test may wait for a poll
        self.hub = HubInProcess(config=config, log_level="WARN")
        if is_running:
            self.start_beside()
        await self.hub.initialize([])
        await self.hub.start()

    def start_beside(self) -> None:
        """Start the controller and what takes up the line."""
        run_background_tasks(self.workbench, f"{self.url}/hub/api")

    async def close_hub(self) -> None:
        """End the hub as its process ends: tasks are cancelled all at once, and containers go on."""
        self.hub.http_server.stop()
        await self.hub.http_server.close_all_connections()
        for callback in self.hub._periodic_callbacks.values():
            callback.stop()
        self.hub.metrics_collector.stop()
        tasks = list(self.workbench.background_tasks)
        for user in self.hub.users.values():
            for spawner in user.spawners.values():
                spawner.stop_polling()
                if spawner.pending == "spawn":
                    tasks.append(spawner._spawn_future)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await JupyterHubHTTPClient.loop_instance().close()
        await self.containers.close()
        self.hub.db.close()

    def be_brisk(self) -> None:
        """Let the hub answer who has to wait at once instead of after 10 s."""
        self.hub.tornado_application.settings["slow_spawn_timeout"] = 0.5

    def skip(self, seconds: float) -> None:
        """Let the lease clock show this much more."""
        self.skipped_seconds += seconds

    def user(self, name: str, *, is_admin: bool = False) -> User:
        """Return a hub user, made at the first call."""
        found = orm.User.find(self.hub.db, name)
        if found is None:
            found = orm.User(name=name, admin=is_admin)
            self.hub.db.add(found)
            self.hub.db.commit()
            assign_default_roles(self.hub.db, entity=found)
            self.hub.db.commit()
        return self.hub.users[found]

    def is_ready(self, name: str, server: str = "") -> bool:
        """Return whether the server runs, as the hub has it."""
        spawners = self.user(name).spawners
        return server in spawners and bool(spawners[server].ready)

    def is_pending(self, name: str, server: str = "") -> bool:
        """Return whether the server waits or starts."""
        spawners = self.user(name).spawners
        return server in spawners and spawners[server].pending == "spawn"

    def client(self, name: str, *, is_admin: bool = False, **options: Any) -> httpx.AsyncClient:
        """Return a REST client that acts as ``name``, with a token of theirs."""
        token = self.user(name, is_admin=is_admin).new_api_token(note="test")
        headers = {"Authorization": f"token {token}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30, **options)

    def browser(self) -> httpx.AsyncClient:
        """Return a client with cookies and nothing else, as a browser starts."""
        return httpx.AsyncClient(base_url=self.url, timeout=30, follow_redirects=False)

    def live(self) -> list[Lease]:
        """Return the leases that are not closed."""
        return list(self.ledger.live_leases())

    def container(self, lease: Lease) -> Any:
        """Return the fake container of ``lease``."""
        return self.engine.containers[container_name(self.settings.instance, lease)]

    def last_lease(self) -> Lease:
        """Return the lease whose container was asked for last, as the ledger has it now."""
        name = [name for operation, name in self.engine.calls if operation == "create"][-1]
        database = sa.create_engine(self.settings.ledger_url)
        with database.connect() as connection:
            ids = connection.execute(sa.text("SELECT id FROM leases")).scalars().all()
        database.dispose()
        leases = [self.ledger.lease(lease_id) for lease_id in ids]
        (lease,) = (x for x in leases if x and container_name(self.settings.instance, x) == name)
        return lease

    def leftovers(self, name: str) -> dict[str, Any]:
        """Return everything that a spawn of ``name`` makes and that still exists."""
        user = self.user(name)
        spawner = orm.User.find(self.hub.db, name).orm_spawners[""]
        return {
            key: value
            for key, value in {
                "server row": spawner.server,
                "state": spawner.state,
                "tokens": [t.note for t in user.api_tokens if t.note.startswith("Server at")],
                "oauth client": spawner.oauth_client,
                "active": user.spawners[""].active,
                "leases": [lease for lease in self.live() if lease.user == name],
                "containers": [c for c in self.engine.containers if f"-{name}-" in c],
            }.items()
            if value
        }


def xsrf_of(page: str) -> str:
    """Return the token that the forms of ``page`` send."""
    found = re.search(r'(?:name="_xsrf" value=|xsrf_token: )"([^"]+)"', page)
    assert found, page
    return found[1]


async def log_in(browser: httpx.AsyncClient, name: str, password: str = PASSWORD) -> httpx.Response:
    """Log in through the page, as people do."""
    page = await browser.get("/hub/login")
    form = {"username": name, "password": password, "_xsrf": xsrf_of(page.text)}
    return await browser.post("/hub/login", data=form)
