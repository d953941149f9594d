"""A whole workbench for tests: an instance of its own, brought up by ``scripts/up`` and removed by ``scripts/down``.

Nothing is mocked here: Docker, hub, broker, agent and images are the product's; only the GPUs are simulated.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from testing.eventually import eventually_sync
from testing.paths import ROOT
from testing.ports import free_port

PASSWORD = "a long enough password"
_T = TypeVar("_T")


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end with its output captured; the caller looks at the exit code."""
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


class Loopback(httpx.HTTPTransport):
    """Connects to this machine, whichever host a URL names: a workbench with host names needs no DNS record."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request as it is to 127.0.0.1."""
        here = httpx.Request(
            request.method,
            request.url.copy_with(host="127.0.0.1"),
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions,
        )
        return super().handle_request(here)


@dataclass
class Person:
    """Someone with a browser session at the hub, seen through HTTP."""

    name: str
    password: str
    url: str
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        """Start with no cookies."""
        self.client = httpx.Client(
            base_url=self.url, follow_redirects=True, timeout=90, transport=Loopback()
        )

    @property
    def xsrf_token(self) -> str:
        """The token that proves a request was made by the hub's own page."""
        tokens = [
            c.value for c in self.client.cookies.jar if c.name == "_xsrf" and c.path == "/hub/"
        ]
        return str(tokens[-1])

    def post(self, path: str, form: dict[str, str]) -> httpx.Response:
        """Send a form as the page at ``path`` would."""
        self.client.get(path)
        return self.client.post(path, data={**form, "_xsrf": self.xsrf_token})

    def sign_up(self) -> httpx.Response:
        """Ask for an account; an admin has to approve it."""
        form = {
            "username": self.name,
            "signup_password": self.password,
            "signup_password_confirmation": self.password,
        }
        return self.post("/hub/signup", form)

    def log_in(self) -> httpx.Response:
        """Log in as the login page does."""
        return self.post("/hub/login", {"username": self.name, "password": self.password})

    def api(self, method: str, path: str, json: object = None, **options: Any) -> httpx.Response:
        """Call the hub's REST API with this person's own rights."""
        headers = {"X-XSRFToken": self.xsrf_token, "Referer": f"{self.url}/hub/home"}
        return self.client.request(method, f"/hub/api{path}", json=json, headers=headers, **options)

    @property
    def server(self) -> dict[str, Any] | None:
        """This person's default server as the hub lists it."""
        servers: dict[str, dict[str, Any]] = self.api("GET", f"/users/{self.name}").json()[
            "servers"
        ]
        return servers.get("")

    def request_server(self, **options: object) -> httpx.Response:
        """Request a server; the hub answers 202 after some seconds where it has to wait."""
        return self.api("POST", f"/users/{self.name}/server", options)

    @property
    def position(self) -> int | None:
        """This person's position in the queue, None when they do not wait."""
        waiting: list[dict[str, Any]] = self.api("GET", "/workbench/queue").json()["waiting"]
        return next((one["position"] for one in waiting if one["user"] == "you"), None)

    def start(self, **options: object) -> httpx.Response:
        """Ask for a server and wait until it is ready or has failed."""
        answer = self.request_server(**options)
        if answer.status_code == httpx.codes.ACCEPTED:
            eventually_sync(
                lambda: (self.server or {"pending": None})["pending"] is None,
                seconds=120,
                what=f"the server of {self.name} is no longer pending",
            )
        return answer

    def stop(self) -> None:
        """Stop the server and wait until it is gone."""
        self.api("DELETE", f"/users/{self.name}/server")
        eventually_sync(
            lambda: self.server is None, seconds=60, what=f"the server of {self.name} is gone"
        )


@dataclass(frozen=True)
class Stack:
    """A running workbench."""

    instance: str
    url: str
    admin_password: str
    gpu_uuids: tuple[str, ...]

    def admin(self) -> Person:
        """Return the first admin, logged in."""
        admin = Person("admin", self.admin_password, self.url)
        admin.log_in()
        return admin

    def person(self, name: str) -> Person:
        """Return a researcher who signed up, was approved and logged in."""
        person = Person(name, PASSWORD, self.url)
        person.sign_up()
        admin = self.admin()
        admin.client.get("/hub/people")
        approved = admin.client.post(
            f"/hub/people/{name}/approve", data={"_xsrf": admin.xsrf_token}
        )
        assert approved.status_code == httpx.codes.OK, approved.text
        person.log_in()
        return person

    def simulate(self, uuid: str, **values: object) -> None:
        """Rewrite one simulated GPU's state while everything runs."""
        pairs = [f"{key}={value}" for key, value in values.items()]
        directory = f"/var/lib/{self.instance}/simulated-gpus"
        script = str(ROOT / "simulation/simulate.py")
        done = run("python3", script, "set", uuid, *pairs, "--dir", directory)
        assert done.returncode == 0, done.stderr

    def containers(self, user: str) -> list[str]:
        """Return the names of the running servers of ``user``."""
        labels = (f"workbench.instance={self.instance}", f"workbench.user={user}")
        filters = [word for label in labels for word in ("--filter", f"label={label}")]
        return docker("ps", "--format", "{{.Names}}", *filters).split()

    def inside(self, user: str, *command: str) -> str:
        """Return what a command prints in the running server of ``user``."""
        (name,) = self.containers(user)
        return docker("exec", name, *command)


def docker(*words: str) -> str:
    """Return what the docker client prints; fails with its error."""
    done = run("/usr/bin/docker", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run_up(
    instance: str, gpus: int = 2, **settings: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """Run ``scripts/up`` for an instance with simulated GPUs; return its outcome and its environment."""
    environment = {
        **os.environ,
        "WORKBENCH_INSTANCE": instance,
        "WORKBENCH_BIND": "127.0.0.1",
        "WORKBENCH_MEMORY_LIMIT": "4G",
        "WORKBENCH_SHM_SIZE": "1G",
        "WORKBENCH_STARTS_PER_HOUR": "100000",
        **settings,
    }
    up = str(ROOT / "scripts/up")
    done = run(up, "--no-install", "--simulate-gpus", str(gpus), env=environment)
    return done, environment


@contextmanager
def running_stack(instance: str, gpus: int = 2, host: str = "", **settings: str) -> Iterator[Stack]:
    """Bring up an instance with simulated GPUs, and remove it with all its data afterwards.

    With ``host``, its public URL has that name.
    """
    port = str(free_port())
    if host:
        settings["WORKBENCH_PUBLIC_URL"] = f"http://{host}:{port}"
    down = (str(ROOT / "scripts/down"), "--purge", "--yes")
    run(*down, env={**os.environ, "WORKBENCH_INSTANCE": instance})
    up, environment = run_up(instance, gpus, WORKBENCH_PORT=port, **settings)
    try:
        assert up.returncode == 0, f"scripts/up failed:\n{up.stdout}\n{up.stderr}"
        password = re.search(r"password:?\s+(\S+)", up.stdout, re.IGNORECASE)
        assert password, f"scripts/up printed no password:\n{up.stdout}"
        states = Path(f"/var/lib/{instance}/simulated-gpus")
        uuids = sorted(path.name for path in states.iterdir() if path.name.startswith("GPU-"))
        url = settings.get("WORKBENCH_PUBLIC_URL") or f"http://127.0.0.1:{port}"
        yield Stack(instance, url, password[1], tuple(uuids))
    finally:
        run(*down, env=environment)
