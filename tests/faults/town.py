"""A whole workbench as processes: hub, proxy, broker and agent as the product starts them, in a network of their own.

Faked are only Docker and what would answer in its containers; the GPUs are simulated below NVML.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import yaml

from spawner.audit.looks import Places, look
from spawner.audit.rules import Finding, audit
from spawner.ledger import Ledger
from spawner.model import Lease
from spawner.policy.names import container_name
from spawner.settings import Settings
from tests.fakes.docker_container import FakeContainer
from tests.fakes.docker_engine import FakeEngine
from tests.fakes.docker_network import Network
from tests.faults.enclosure import enclosed
from tests.simulation.host import SimulatedHost

ROOT = Path(__file__).parents[2]
PROXY = ROOT / "images/hub/proxy/node_modules/.bin"
# the names that docker-compose.yml gives; each process listens at every address
HOSTS = {"hub": "127.0.1.1", "proxy-api": "127.0.1.2", "gpu-agent": "127.0.1.3"}
URL = "http://127.0.0.1:8000"
HUB_API = "http://127.0.0.1:8081/hub/api"
IMAGE_ID = "sha256:1"
_T = TypeVar("_T")


class Town:
    """One running workbench; use it as an async context manager in the main thread.

    ``settings`` are ``WORKBENCH_*`` variables without the prefix. The processes are in ``processes`` by name: "agent",
    "broker", "proxy", "hub", and write to ``folder/NAME.log``.
    """

    def __init__(self, folder: Path, gpus: int = 2, **settings: str) -> None:
        """Start nothing yet."""
        self.folder = folder
        self.engine = FakeEngine(folder / "docker.sock")
        self.engine.date = lambda: datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self.network = Network(self.engine, HOSTS)
        self.gpus = SimulatedHost(folder / "gpus")
        self.gpu_uuids = [self.gpus.add(number) for number in range(gpus)]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("data", "run", "etc"):
            (folder / name).mkdir()
        for file in ("jupyterhub_config.py", "images/catalog.toml"):
            shutil.copy(ROOT / file, folder / "etc")
        self._token = secrets.token_hex(32)
        ours = {
            "AUTHENTICATOR": "dummy",
            "LEDGER_URL": f"sqlite:///{folder}/data/ledger.sqlite",
            **settings,
        }
        workbench = {f"WORKBENCH_{name}": value for name, value in ours.items()}
        self.settings = Settings.from_environ(workbench)
        self._environment = {
            **self.gpus.environment,
            **workbench,
            "PATH": f"{PROXY}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CONFIGPROXY_AUTH_TOKEN": secrets.token_hex(32),
            "TOWN_FOLDER": str(folder),
            "TOWN_TOKEN": self._token,
        }

    async def __aenter__(self) -> Self:
        """Start everything; returns when the hub answers through the proxy."""
        self._stack = AsyncExitStack()
        try:
            self._stack.enter_context(enclosed(self.folder))
            self._stack.callback(self.kill, "hub", "proxy", "broker", "agent")
            await self._stack.enter_async_context(self.engine)
            await self._stack.enter_async_context(self.network)
            self.admin = self._client(f"{HUB_API}/", self._token)
            self._stack.push_async_callback(self.admin.aclose)
            for release in ("v2.7",):
                self.engine.images[f"pytorch-cuda:{release}"] = IMAGE_ID
            self.start_agent()
            self.start_broker()
            self.start_proxy()
            self.start_hub()
            await self.until_hub_answers()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Kill every process and forget everything."""
        await self._stack.aclose()

    # --- processes

    def start_agent(self) -> None:
        """Start the gpu-agent."""
        self._start("agent", sys.executable, "-m", "spawner.agent")

    def start_broker(self) -> None:
        """Start the broker."""
        flags = {
            "listen": self.folder / "run/docker.sock",
            "docker": self.engine.socket_path,
            "group": os.getgid(),
            "catalog": self.folder / "etc/catalog.toml",
        }
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        self._start("broker", sys.executable, "-m", "spawner.broker", *words)

    def start_proxy(self) -> None:
        """Start the proxy with the words of docker-compose.yml."""
        services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        self._start("proxy", *services["proxy"]["command"])

    def start_hub(self, name: str = "hub") -> subprocess.Popen[bytes]:
        """Start a hub on the town's data and return it at once."""
        config = str(ROOT / "tests/faults/config.py")
        return self._start(name, sys.executable, "-m", "jupyterhub", "-f", config)

    def kill(self, *names: str) -> None:
        """Kill these processes with SIGKILL, where they run, and wait for their ends."""
        for name in names:
            process = self.processes.pop(name, None)
            if process is not None:
                process.kill()
                process.wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one process."""
        self.processes[name].send_signal(number)

    async def restart_hub(self) -> None:
        """Kill the hub, start the next on the same data and wait until it answers."""
        self.kill("hub")
        self.start_hub()
        await self.until_hub_answers()

    async def until_hub_answers(self) -> None:
        """Wait until the hub answers through the proxy; a hub that ended is a failure at once."""

        async def answers() -> bool:
            assert self.processes["hub"].poll() is None, self.log("hub")
            async with httpx.AsyncClient() as client:
                with_proxy = await client.get(f"{URL}/hub/health")
            return with_proxy.is_success

        await eventually(answers, "the hub answers")

    def log(self, name: str) -> str:
        """Return the end of what a process wrote."""
        return "".join((self.folder / f"{name}.log").read_text().splitlines(keepends=True)[-60:])

    def _start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            # it ends with whoever started it, however that ends
            self.processes[name] = process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                cwd=self.folder / "data",
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return process

    # --- people

    async def person(self, name: str) -> Person:
        """Return a researcher, logged in through the login page."""
        person = Person(name)
        self._stack.push_async_callback(person.client.aclose)
        await person.log_in()
        return person

    def _client(self, url: str, token: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"token {token}"}, timeout=60
        )

    # --- what is so

    def ledger(self) -> Ledger:
        """Return the hub's ledger, opened beside it."""
        return Ledger.open(self.settings.ledger_url, first_uid=self.settings.first_uid)

    def lease(self, user: str, server: str = "") -> Lease | None:
        """Return the last lease of a server, live or closed."""
        ledger = self.ledger()
        try:
            return ledger.last_lease(user, server)
        finally:
            ledger.close()

    def container(self, user: str) -> FakeContainer:
        """Return the one container of ``user``."""
        (found,) = (
            c
            for c in self.engine.containers.values()
            if c.body["Labels"].get("workbench.user") == user
        )
        return found

    def name(self, lease: Lease) -> str:
        """Return the name of the lease's container."""
        return container_name(self.settings.instance, lease)

    async def audit(self) -> tuple[Finding, ...]:
        """Return what the product's auditor finds wrong."""
        places = Places(
            instance=self.settings.instance,
            first_uid=self.settings.first_uid,
            docker_socket=self.folder / "run/docker.sock",
            ledger_url=self.settings.ledger_url,
            hub_database_url=f"sqlite:///{self.folder}/data/jupyterhub.sqlite",
        )
        _, findings = await asyncio.to_thread(audit, partial(look, places))
        return findings


class Person:
    """Someone with a browser at the proxy."""

    def __init__(self, name: str) -> None:
        """Have no cookies."""
        self.name = name
        self.client = httpx.AsyncClient(base_url=URL, timeout=60)

    async def log_in(self) -> httpx.Response:
        """Log in as the login page does."""
        await self.client.get("/hub/login")
        form = {"username": self.name, "password": "any", "_xsrf": self._xsrf_token}
        return await self.client.post("/hub/login", data=form)

    @property
    def _xsrf_token(self) -> str:
        return str([c.value for c in self.client.cookies.jar if c.name == "_xsrf"][-1])

    async def api(self, method: str, path: str, json: object = None) -> httpx.Response:
        """Call the hub's REST API as this person's pages do."""
        headers = {"X-XSRFToken": self._xsrf_token, "Referer": f"{URL}/hub/home"}
        return await self.client.request(method, f"/hub/api{path}", json=json, headers=headers)

    async def ask(self, **options: object) -> httpx.Response:
        """Ask for a server: 201 it runs, 202 it will, any other says why not."""
        return await self.api("POST", f"/users/{self.name}/server", options)

    async def start(self, **options: object) -> None:
        """Ask for a server and wait until it answers."""
        asked = await self.ask(**options)
        assert asked.is_success, asked.text
        await eventually(self.is_ready, f"the server of {self.name} is ready")

    async def server(self) -> dict[str, Any] | None:
        """Return this person's server as the hub lists it."""
        answer = await self.api("GET", f"/users/{self.name}")
        servers: dict[str, dict[str, Any]] = answer.raise_for_status().json()["servers"]
        return servers.get("")

    async def is_ready(self) -> bool:
        """Return whether the hub says that the server answers."""
        server = await self.server()
        return server is not None and bool(server["ready"])

    async def stop(self) -> None:
        """Stop the server and wait until it is gone."""
        answer = await self.api("DELETE", f"/users/{self.name}/server")
        assert answer.is_success, answer.text

        async def is_gone() -> bool:
            return await self.server() is None

        await eventually(is_gone, f"the server of {self.name} is gone")

    async def visit(self) -> dict[str, str] | None:
        """Return who answers at this person's server, None for an error page or one of the hub's."""
        answer = await self.client.get(f"/user/{self.name}/lab")
        if answer.status_code != httpx.codes.OK:
            return None
        who: dict[str, str] = answer.json()
        return who


async def eventually(
    look: Callable[[], Awaitable[_T] | _T], what: str, seconds: float = 60.0
) -> _T:
    """Return the first true answer of ``look``; fails with ``what`` after the deadline.

    Nobody answering is not yet an answer.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        try:
            found = look()
            answer: _T = await found if isinstance(found, Awaitable) else found
            if answer:
                return answer
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {what}")
