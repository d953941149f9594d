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
from collections.abc import Collection
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self

import httpx
import yaml

from simulation.host import SimulatedHost
from spawner.audit.probes import ProbeTargets, probe
from spawner.audit.rules import Finding, audit
from spawner.ledger import Ledger
from spawner.model import Lease
from spawner.settings import Settings
from testing.eventually import eventually
from testing.fakes.docker_container import FakeContainer
from testing.fakes.docker_engine import FakeEngine
from testing.fakes.docker_network import Network
from testing.guard_state import reporting_guard
from testing.netns import enclosed
from testing.paths import ROOT
from testing.people import URL, Person

PROXY = ROOT / "images/hub/proxy"
PLAIN_PROXY = "configurable-http-proxy"
# the names that docker-compose.yml gives; each process listens at every address
HOSTS = {"hub": "127.0.1.1", "proxy-api": "127.0.1.2", "gpu-agent": "127.0.1.3"}
HUB_API = "http://127.0.0.1:8081/hub/api"
IMAGE_ID = "sha256:1"


class ProcessStack:
    """One running workbench; use it as an async context manager in the main thread.

    ``settings`` are ``WORKBENCH_*`` variables without the prefix. The processes are in ``processes`` by name: "agent",
    "broker", "proxy", "hub", and write to ``folder/NAME.log``. A test may add secrets to ``environment``.
    """

    def __init__(
        self, folder: Path, gpus: int = 2, *, weak: Collection[str] = (), **settings: str
    ) -> None:
        """Start nothing yet; ``weak`` are the parts, "proxy" or "hub", that protect as JupyterHub's own do."""
        self._weak = weak
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
        shutil.copytree(ROOT / "docs", folder / "etc/docs")
        self._token = secrets.token_hex(32)
        ours = {
            "AUTHENTICATOR": "dummy",
            "STARTS_PER_HOUR": "100000",
            "LEDGER_URL": f"sqlite:///{folder}/data/ledger.sqlite",
            **settings,
        }
        workbench = {f"WORKBENCH_{name}": value for name, value in ours.items()}
        self.settings = Settings.from_environ(workbench)
        self.environment = {
            **self.gpus.environment,
            **workbench,
            "PATH": f"{PROXY}:{PROXY}/node_modules/.bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CONFIGPROXY_AUTH_TOKEN": secrets.token_hex(32),
            "SOCKET_CHECK_MS": "300",
            "STACK_FOLDER": str(folder),
            "STACK_TOKEN": self._token,
            **({"STACK_SHARED_ORIGIN": "yes"} if "hub" in weak else {}),
        }

    async def __aenter__(self) -> Self:
        """Start everything; returns when the hub answers through the proxy."""
        self._stack = AsyncExitStack()
        try:
            self._stack.enter_context(enclosed(self.folder))
            self._stack.callback(lambda: self.kill(*self.processes))
            await self._stack.enter_async_context(self.engine)
            await self._stack.enter_async_context(self.network)
            self.admin = self._client(f"{HUB_API}/", self._token)
            self._stack.push_async_callback(self.admin.aclose)
            for release in ("v2.7",):
                self.engine.images[f"pytorch-cuda:{release}"] = IMAGE_ID
            self._stack.enter_context(reporting_guard(self.folder / "run/guard.json"))
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
        self.start("agent", sys.executable, "-m", "spawner.agent")

    def start_broker(self) -> None:
        """Start the broker."""
        flags = {
            "listen": self.folder / "run/docker.sock",
            "docker": self.engine.socket_path,
            "group": os.getgid(),
            "catalog": self.folder / "etc/catalog.toml",
            "guard-state": self.folder / "run/guard.json",
        }
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        self.start("broker", sys.executable, "-m", "spawner.broker", *words)

    def start_proxy(self) -> None:
        """Start the proxy with the words of docker-compose.yml."""
        services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        program, *words = services["proxy"]["command"]
        self.start("proxy", PLAIN_PROXY if "proxy" in self._weak else program, *words)

    def start_hub(self, name: str = "hub") -> subprocess.Popen[bytes]:
        """Start a hub on the process stack's data and return it at once."""
        config = str(ROOT / "testing/process_stack_config.py")
        return self.start(name, sys.executable, "-m", "jupyterhub", "-f", config)

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
        return "".join((self.folder / f"{name}.log").read_text().splitlines(keepends=True)[-200:])

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a process of the stack; it is in ``processes`` as ``name``."""
        with (self.folder / f"{name}.log").open("ab") as log:
            # it ends with its parent process, however that ends
            self.processes[name] = process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                cwd=self.folder / "data",
                env=self.environment,
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

    async def running(self, name: str, gpus: int = 1) -> Person:
        """Return a person whose server runs."""
        person = await self.person(name)
        await person.start(gpus=gpus)
        return person

    def _client(self, url: str, token: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"token {token}"}, timeout=60
        )

    # --- what is so

    def ledger(self) -> closing[Ledger]:
        """Open the hub's ledger from outside, for a block."""
        url, first_uid = self.settings.ledger_url, self.settings.first_uid
        return closing(Ledger.open_existing(url, first_uid=first_uid))

    def lease(self, user: str, server: str = "") -> Lease:
        """Return the last lease of a server, live or closed."""
        with self.ledger() as ledger:
            lease = ledger.last_lease(user, server)
        assert lease is not None, user
        return lease

    def container(self, user: str) -> FakeContainer:
        """Return the one container of ``user``."""
        (found,) = (
            c for c in self.engine.containers.values() if c.body["Labels"]["workbench.user"] == user
        )
        return found

    def done_to(self, container: FakeContainer) -> list[str]:
        """Return what was asked of Docker that changes this container, in order."""
        names = (container.name, container.id)
        return [
            operation
            for operation, subject in self.engine.calls
            if subject in names and operation in ("create", "start", "stop", "delete")
        ]

    async def audit(self) -> tuple[Finding, ...]:
        """Return what the product's auditor finds wrong."""
        places = ProbeTargets(
            instance=self.settings.instance,
            first_uid=self.settings.first_uid,
            docker_socket=self.folder / "run/docker.sock",
            ledger_url=self.settings.ledger_url,
            hub_database_url=f"sqlite:///{self.folder}/data/jupyterhub.sqlite",
        )
        _, findings = await asyncio.to_thread(audit, partial(probe, places))
        return findings
