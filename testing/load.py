"""Load: many users at one workbench, each with a token; every answer is kept.

Tests compare the workbench's own answers with Docker and the ledger's file.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import httpx

from testing.eventually import eventually_sync
from testing.stack import Stack, docker, run

_T = TypeVar("_T")
PAGES = "application/jupyterhub-pagination+json"


@dataclass(frozen=True)
class Answer:
    """One answer of the hub; ``status`` 0 is a broken connection. Times are of the monotonic clock."""

    method: str
    path: str
    status: int
    text: str
    asked_at: float
    answered_at: float

    @property
    def is_error(self) -> bool:
        """True for a 5xx, and where there was no answer."""
        return self.status == 0 or self.status >= httpx.codes.INTERNAL_SERVER_ERROR


@dataclass(frozen=True)
class ObservedLease:
    """A lease as the ledger's file has it."""

    id: str
    user: str
    state: str
    cause: str | None
    gpu_count: int
    gpu_uuids: tuple[str, ...]
    requested_at: float
    granted_at: float | None


@dataclass(frozen=True)
class ObservedServer:
    """A running container of a server, by its labels; ``given`` are the GPUs that Docker gave it."""

    id: str
    name: str
    user: str
    lease: str
    gpus: frozenset[str]
    given: frozenset[str]
    started_at: str


@dataclass
class Load:
    """The people, and what they were answered."""

    stack: Stack
    answers: list[Answer] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Log in the admin, who then works with a token like all users."""
        made = self.stack.admin().api("POST", "/users/admin/tokens", {"note": "load"})
        self.tokens["admin"] = made.json()["token"]
        self._client = httpx.Client(
            base_url=self.stack.url, timeout=120, limits=httpx.Limits(max_connections=None)
        )

    def request(
        self, who: str, method: str, path: str, json: object = None, accept: str = "*/*"
    ) -> httpx.Response | None:
        """Ask as ``who`` and keep the answer; None where there was none."""
        headers = {"Authorization": f"token {self.tokens[who]}", "Accept": accept}
        asked_at = time.monotonic()
        response: httpx.Response | None = None
        try:
            response = self._client.request(method, path, json=json, headers=headers)
        except httpx.TransportError as error:
            status, text = 0, repr(error)
        else:
            status, text = response.status_code, response.text
        self.answers.append(Answer(method, path, status, text, asked_at, time.monotonic()))
        return response

    def api(
        self, who: str, method: str, path: str, json: object = None, accept: str = "*/*"
    ) -> Any:
        """Return the JSON of a REST call that has to succeed."""
        response = self.request(who, method, f"/hub/api{path}", json, accept)
        assert response is not None, self.answers[-1]
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    # --- people

    def add(self, *names: str) -> None:
        """Make the users, as an admin does, each with a token of their own."""
        self.api("admin", "POST", "/users", {"usernames": list(names)})
        for name in names:
            self.renew_token(name)

    def renew_token(self, name: str) -> None:
        """Give ``name`` a token."""
        self.tokens[name] = self.api("admin", "POST", f"/users/{name}/tokens", {})["token"]

    def request_server(self, name: str, **options: object) -> httpx.Response | None:
        """Request a server; the hub answers 202 after some seconds where it has to wait."""
        return self.request(name, "POST", f"/hub/api/users/{name}/server", options)

    def stop(self, name: str) -> httpx.Response | None:
        """Stop the server, or give up the place in line."""
        return self.request(name, "DELETE", f"/hub/api/users/{name}/server")

    def at_once(self, act: Callable[[str], _T], names: Sequence[str]) -> list[_T]:
        """Let all of ``names`` do the same, none before all are ready to."""
        barrier = threading.Barrier(len(names))

        def together(name: str) -> _T:
            barrier.wait()
            return act(name)

        with ThreadPoolExecutor(len(names)) as pool:
            return list(pool.map(together, names))

    def stop_all(self, names: Iterable[str]) -> None:
        """Stop everyone's server and wait until nothing is left of them."""
        names = list(names)
        if not names:
            return
        self.at_once(self.stop, names)
        eventually_sync(
            lambda: not {lease.user for lease in self.live_leases()} & {*names},
            seconds=120,
            what="everyone has gone home",
        )

    # --- what the hub says

    def users(self, state: str | None = None) -> dict[str, dict[str, Any]]:
        """Return all servers by user; only those in ``state`` (active, ready or inactive) where one is named."""
        servers: dict[str, dict[str, Any]] = {}
        page: dict[str, Any] | None = {"offset": 0}
        query = f"&state={state}" if state else ""
        while page:
            path = f"/users?limit=200&offset={page['offset']}{query}"
            answer = self.api("admin", "GET", path, accept=PAGES)
            servers |= {user["name"]: user["servers"] for user in answer["items"]}
            page = answer["_pagination"]["next"]
        return servers

    def servers(self, state: str = "ready") -> dict[str, dict[str, Any]]:
        """Return the default servers in ``state``, by user."""
        return {user: servers[""] for user, servers in self.users(state).items() if servers}

    def is_ready(self, name: str) -> bool:
        """Return whether the hub calls the server of ``name`` ready."""
        server = self.api("admin", "GET", f"/users/{name}")["servers"].get("")
        return bool(server and server["ready"])

    def waiting(self) -> list[str]:
        """Return the queued users, in order."""
        waiting = self.api("admin", "GET", "/workbench/queue")["waiting"]
        assert [one["position"] for one in waiting] == list(range(1, len(waiting) + 1))
        return [one["user"] for one in waiting]

    def is_served(self, name: str) -> bool:
        """Return whether the server of ``name`` answers at its own address."""
        answer = self._client.get(f"/user/{name}/api")
        return answer.is_success and "version" in answer.json()

    def lease(self, name: str) -> dict[str, Any]:
        """Return the lease of ``name`` as they see it."""
        answer: dict[str, Any] = self.api(name, "GET", "/workbench/server/lease")
        return answer

    # --- what really is

    def read_ledger(self, query: str) -> list[dict[str, Any]]:
        """Return the rows of the ledger's file; it needs no hub."""
        mount = docker("volume", "inspect", "-f", "{{.Mountpoint}}", f"{self.stack.instance}-data")
        file = Path(mount) / "ledger.sqlite"
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=30)) as ledger:
            ledger.row_factory = sqlite3.Row
            return [dict(row) for row in ledger.execute(query)]

    def leases(self) -> list[ObservedLease]:
        """Return every lease, in order of first come."""
        names = ", ".join(one.name for one in fields(ObservedLease))
        rows = self.read_ledger(f"SELECT {names} FROM leases ORDER BY requested_at, id")  # noqa: S608
        return [
            ObservedLease(**{**row, "gpu_uuids": (*json.loads(row["gpu_uuids"]),)}) for row in rows
        ]

    def live_leases(self) -> list[ObservedLease]:
        """Return those that are not closed."""
        return [lease for lease in self.leases() if lease.state != "closed"]

    def containers(self) -> dict[str, ObservedServer]:
        """Return the running servers by user."""
        filters = (f"label=workbench.instance={self.stack.instance}", "label=workbench.role=server")
        words = [word for one in filters for word in ("--filter", one)]
        ids = docker("ps", "--quiet", "--no-trunc", *words).split()
        # one that goes meanwhile is an error of the command, and the others are printed all the same
        seen = json.loads(run("/usr/bin/docker", "inspect", *ids).stdout) if ids else []
        return {server.user: server for server in map(_as_server, seen)}

    def audit(self) -> Mapping[str, Any]:
        """Return what ``workbench audit`` prints, of the hub's container or, while there is none, the broker's."""
        for service in ("hub", "broker"):
            done = run(
                "/usr/bin/docker", "exec", f"{self.stack.instance}-{service}-1",
                "workbench", "audit", "run", "--no-network", "--json",
            )  # fmt: skip
            if done.stdout:
                return {"code": done.returncode, **json.loads(done.stdout)}
        raise AssertionError(done.stderr)

    def logged_errors(self) -> list[str]:
        """Return every 5xx of which the hub's log speaks."""
        logged = run("/usr/bin/docker", "logs", f"{self.stack.instance}-hub-1")
        return re.findall(r"\] 5\d\d (?:GET|POST|PUT|DELETE) .*", logged.stdout + logged.stderr)


def _as_server(seen: Mapping[str, Any]) -> ObservedServer:
    labels = seen["Config"]["Labels"]
    requests = seen["HostConfig"]["DeviceRequests"] or []
    given = (device for request in requests for device in request["DeviceIDs"])
    return ObservedServer(
        id=seen["Id"],
        name=seen["Name"].removeprefix("/"),
        user=labels["workbench.user"],
        lease=labels["workbench.lease"],
        gpus=frozenset(filter(None, labels["workbench.gpus"].split(","))),
        given=frozenset(device.removeprefix("nvidia.com/gpu=") for device in given),
        started_at=seen["State"]["StartedAt"],
    )
