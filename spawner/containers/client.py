"""Docker client: sends the Engine API requests for the containers of one instance.

Effects on one container keep their order, and no container waits for another. A missing answer is ``Unknown``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from weakref import WeakValueDictionary

import aiohttp
from aiodocker import Docker, DockerError
from aiodocker.containers import DockerContainer
from aiodocker.volumes import DockerVolume

from spawner.containers.events import ContainerEnd, EventGap, watch_ends
from spawner.model import LaunchError, Unknown
from spawner.policy.container import LABEL_INSTANCE, LABEL_LEASE, LABEL_ROLE, ROLE_SERVER

API_VERSION = "v1.44"  # Docker 25, the first with CDI; pinned, so the client never negotiates it
_NEVER_STARTED = "0001-01-01T00:00:00Z"
_REMOVING_STATES = frozenset({"removing", "dead"})
_POLL_SECONDS = 0.1
_HOST = "http://docker"  # a placeholder: a unix socket has no host name


@dataclass(frozen=True)
class ContainerStatus:
    """The state of one container, as Docker reports it.

    ``exit_code`` is None while it runs and before its first start. ``error`` is Docker's own message about a failed
    start. ``started_at`` is in seconds since the Unix epoch, None if it never ran. ``is_being_removed``: a removal has
    begun and has not finished.
    """

    id: str
    name: str
    labels: Mapping[str, str]
    is_running: bool
    exit_code: int | None
    oom_killed: bool
    error: str | None
    started_at: float | None
    is_being_removed: bool = False


@dataclass(frozen=True)
class ListedServer:
    """One server as Docker lists it; ``lease_id`` is "" if its container has no such label."""

    name: str
    lease_id: str
    is_running: bool


@dataclass(frozen=True)
class HomeList:
    """The home volumes of one instance: the size in bytes by name, None if it is unknown.

    ``measured_at`` is the time of the measurement, None before the first one.
    """

    sizes: Mapping[str, int | None]
    measured_at: datetime | None


@dataclass(frozen=True)
class Timeouts:
    """The time limit of each kind of call."""

    request_seconds: float = 10.0
    launch_seconds: float = 60.0
    prepare_seconds: float = 120.0
    remove_seconds: float = 30.0  # beyond the grace


class _Rejected(Exception):  # noqa: N818
    """A 4xx answer: the daemon or the broker understood the request and rejected it."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class Containers:
    """The containers of one instance, over one unix socket.

    Effects on one container keep their order; no container waits for another. Every method raises ``Unknown`` without a
    trustworthy answer of Docker: the effect may then still happen.
    """

    def __init__(self, socket_path: str, instance: str, bounds: Timeouts | None = None) -> None:
        self._socket_path = socket_path
        self._instance = instance
        self._timeouts = bounds or Timeouts()
        self._client: Docker | None = None
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
            await client.connector.close()

    async def image_id(self, tag: str) -> str:
        """Return the ``sha256:…`` id of a local image; raises LaunchError when it is missing."""
        try:
            async with self._request(f"image {tag}", self._timeouts.request_seconds) as docker:
                return str((await docker.images.inspect(tag))["Id"])
        except _Rejected as refused:
            if refused.status == 404:
                raise LaunchError(
                    f"The image {tag} is not on this host: run scripts/up to build it."
                ) from refused
            raise LaunchError(f"The image {tag} cannot be used: {refused.sentence}") from refused

    async def create(self, name: str, body: Mapping[str, Any]) -> str:
        """Create a container from an Engine API body; return its id. A refusal is a LaunchError."""
        async with self._lock(name):
            return await self._create(name, body)

    async def start(self, name: str) -> None:
        """Start a created container; a refusal is a LaunchError."""
        async with self._lock(name):
            await self._start(name)

    async def prepare_home(self, name: str, body: Mapping[str, Any]) -> None:
        """Run a one-shot container and remove it; a failure is a LaunchError with its log."""
        async with self._lock(name):
            await self._remove(name, grace_seconds=0)  # a crash may have left an earlier one
            await self._create(name, body)
            try:
                await self._start(name)
                exit_code = await self._wait(name)
                log = await self.log_tail(name) if exit_code else ""
            finally:
                await self._remove(name, grace_seconds=0)
        if exit_code:
            raise LaunchError(f"The home could not be prepared (exit code {exit_code}): {log}")

    async def inspect(self, name: str) -> ContainerStatus | None:
        """Return the status of a container; None is proof that it does not exist."""
        try:
            async with self._request(f"inspect {name}", self._timeouts.request_seconds) as docker:
                return _read_status(await self._container(docker, name).show())
        except _Rejected as refused:
            # a 404 for a wrong path, or from a proxy in between, proves nothing
            if refused.status == 404 and "no such container" in refused.sentence.lower():
                return None
            raise Unknown(f"It is unknown whether {name} exists: {refused.sentence}") from refused

    async def remove(self, name: str, grace_seconds: int) -> None:
        """Stop and remove a container and return on proof of its absence; volumes stay.

        ``grace_seconds`` is the time between its SIGTERM and its SIGKILL.
        """
        async with self._lock(name):
            await self._remove(name, grace_seconds)

    async def list_servers(self) -> tuple[ListedServer, ...]:
        """Return every single-user server of this instance, running or not, with one request."""
        try:
            async with self._request("list the servers", self._timeouts.request_seconds) as docker:
                listed = await docker.containers.list(all=True)
                return tuple(_read_listed(c) for c in listed if self._is_server(c))
        except _Rejected as refused:
            raise Unknown(f"Docker did not list the servers: {refused.sentence}") from refused

    def watch(self) -> AsyncIterator[ContainerEnd | EventGap]:
        """Yield the ends of servers as Docker reports them, without end; raises nothing.

        An EventGap comes first and after every interruption. Each item is a reason to ``inspect`` and proves nothing.
        """
        return watch_ends(f"{_HOST}/{API_VERSION}/events", self._socket_path, self._instance)

    async def list_homes(self) -> HomeList:
        """Return every home volume of this instance with its last measured size."""
        try:
            async with self._request("list the homes", self._timeouts.request_seconds) as docker:
                return _read_homes(await docker.volumes.list())  # type: ignore[no-untyped-call]
        except _Rejected as refused:
            raise Unknown(f"Docker did not list the homes: {refused.sentence}") from refused

    async def remove_home(self, volume: str) -> str | None:
        """Remove a home and return None on proof of its absence, else why it was not removed."""
        try:
            async with self._request(f"remove {volume}", self._timeouts.prepare_seconds) as docker:
                await DockerVolume(docker, volume).delete()  # type: ignore[no-untyped-call]
        except _Rejected as refused:
            is_gone = refused.status == 404 and "no such volume" in refused.sentence.lower()
            return None if is_gone else refused.sentence
        return None

    async def log_tail(self, name: str, lines: int = 20) -> str:
        """Return a container's last log lines, printable characters only; "" if there are none."""
        try:
            async with self._request(f"log of {name}", self._timeouts.request_seconds) as docker:
                container = self._container(docker, name)
                pieces = await container.log(stdout=True, stderr=True, tail=lines)
        except _Rejected:
            return ""
        text = "".join(pieces)
        return "".join(c for c in text if c.isprintable() or c == "\n").strip()

    async def _create(self, name: str, body: Mapping[str, Any]) -> str:
        async with self._launch_request(f"create {name}") as docker:
            return (await docker.containers.create(body, name=name)).id

    async def _start(self, name: str) -> None:
        async with self._launch_request(f"start {name}") as docker:
            await self._container(docker, name).start()

    async def _wait(self, name: str) -> int:
        try:
            async with self._request(f"wait for {name}", self._timeouts.prepare_seconds) as docker:
                return int((await self._container(docker, name).wait())["StatusCode"])
        except _Rejected as refused:
            raise Unknown(f"It is unknown how {name} ended: {refused.sentence}") from refused

    async def _remove(self, name: str, grace_seconds: int) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + grace_seconds + self._timeouts.remove_seconds
        while True:
            try:
                await self._stop_and_delete(name, grace_seconds)
                if await self.inspect(name) is None:
                    return
                reason = "it still exists"
            except Unknown as unknown:
                reason = str(unknown)
            except _Rejected as refused:  # a retry cannot change a rejection
                raise Unknown(f"{name} was not removed: {refused.sentence}") from refused
            if clock() >= deadline:
                raise Unknown(f"The container {name} was not seen gone: {reason}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _stop_and_delete(self, name: str, grace_seconds: int) -> None:
        """Send one stop and one removal; a container that is gone, ending or just started is no error."""
        try:
            seconds = grace_seconds + self._timeouts.request_seconds
            async with self._request(f"stop {name}", seconds) as docker:
                await self._container(docker, name).stop(t=grace_seconds)
            async with self._request(f"remove {name}", self._timeouts.request_seconds) as docker:
                await self._container(docker, name).delete()
        except _Rejected as refused:
            if refused.status not in (404, 409):
                raise

    def _is_server(self, listed: DockerContainer) -> bool:
        labels = listed["Labels"] or {}
        return (
            labels.get(LABEL_INSTANCE) == self._instance and labels.get(LABEL_ROLE) == ROLE_SERVER
        )

    def _container(self, docker: Docker, name: str) -> DockerContainer:
        return docker.containers.container(name)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    @asynccontextmanager
    async def _launch_request(self, what: str) -> AsyncIterator[Docker]:
        try:
            async with self._request(what, self._timeouts.launch_seconds) as docker:
                yield docker
        except _Rejected as refused:
            raise LaunchError(f"Docker refused to {what}: {refused.sentence}") from refused

    @asynccontextmanager
    async def _request(self, what: str, seconds: float) -> AsyncIterator[Docker]:
        """Limit the time of a call; its failures become ``_Rejected`` (4xx) or ``Unknown`` (any other)."""
        if self._client is None:
            # no connection limit: a hundred slow stops must not delay one start
            connector = aiohttp.UnixConnector(self._socket_path, limit=0)
            self._client = Docker(_HOST, connector=connector, api_version=API_VERSION)
        try:
            async with asyncio.timeout(seconds):
                yield self._client
        except DockerError as error:
            if 400 <= error.status < 500:
                raise _Rejected(error.status, error.message) from error
            raise Unknown(f"Docker failed to {what}: {error.message}") from error
        except TimeoutError as error:
            raise Unknown(f"Docker did not answer within {seconds:g} s ({what}).") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unknown(f"Docker cannot be reached ({what}): {error}") from error
        # an answer that does not have the shape of Docker's API
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise Unknown(f"Docker's answer cannot be read ({what}): {error!r}") from error


def _read_listed(seen: DockerContainer) -> ListedServer:
    return ListedServer(
        name=str(seen["Names"][0]).removeprefix("/"),
        lease_id=str(seen["Labels"].get(LABEL_LEASE, "")),
        is_running=seen["State"] == "running",
    )


def _read_homes(seen: Mapping[str, Any]) -> HomeList:
    at = seen.get("MeasuredAt")
    return HomeList(
        {
            str(one["Name"]): int(one["UsageData"]["Size"]) if one.get("UsageData") else None
            for one in seen["Volumes"] or ()
        },
        None if at is None else datetime.fromisoformat(at),
    )


def _read_status(seen: Mapping[str, Any]) -> ContainerStatus:
    state = seen["State"]
    has_run = state["StartedAt"] != _NEVER_STARTED
    is_running = bool(state["Running"])
    return ContainerStatus(
        id=str(seen["Id"]),
        name=str(seen["Name"]).removeprefix("/"),
        labels=dict(seen["Config"]["Labels"] or {}),
        is_running=is_running,
        exit_code=int(state["ExitCode"]) if has_run and not is_running else None,
        oom_killed=bool(state["OOMKilled"]),
        error=state["Error"] or None,
        started_at=datetime.fromisoformat(state["StartedAt"]).timestamp() if has_run else None,
        is_being_removed=state["Status"] in _REMOVING_STATES,
    )
