"""The fake Docker Engine behind the product's own broker, without a socket between them.

Every answer is FakeEngine's and every refusal the broker's; only HTTP is left out, so that thousands of interleavings
can be tried. A ``Gate`` is where the broker has checked and Docker has not yet been allowed.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from aiodocker import DockerError
from aiohttp import web

from spawner.broker.allowlist import AllowedRequest, Operation
from spawner.broker.app import Broker
from spawner.broker.engine import Reply
from spawner.broker.errors import BrokerError
from spawner.containers import Containers, Timeouts
from spawner.ledger import Ledger
from testing.fakes.docker_container import FakeContainer
from testing.fakes.docker_engine import FakeEngine

_T = TypeVar("_T")

Gate = Callable[[], Awaitable[None]]


class Trouble(Enum):
    """The fate of a call to the daemon."""

    ERROR = "500 without effect"
    LOST = "the effect, but no answer"
    LATE = "no answer; the effect comes when it is let go"


@dataclass
class LateCall:
    """An effect that is on its way and may come at any time."""

    operation: str
    subject: str
    happen: Callable[[], Awaitable[web.Response]] = field(repr=False)


class QuickDaemon(FakeEngine):
    """FakeEngine's answers by a plain call; ``wall`` dates its starts."""

    def __init__(self, gate: Gate, wall: Callable[[], float]) -> None:
        """Have no trouble planned."""
        super().__init__(Path("unused"))
        self.gate = gate
        self.troubles: deque[Trouble | None] = deque()
        self.late: list[LateCall] = []
        self.on_stop: Callable[[FakeContainer], None] = lambda _: None
        self._wall = wall

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        seconds: float = 0.0,
    ) -> Reply:
        """Answer as the broker's Engine does; raises BrokerError (504) where no answer comes."""
        operation, handle, subject = self._route(method, path, query or {})
        request: Any = SimpleNamespace(
            match_info={"subject": subject}, query=dict(query or {}), transport=None
        )

        async def read_json() -> object:
            return body

        request.json = read_json
        if operation == "stop":
            self.on_stop(self._get_container(subject))
        call = LateCall(operation, subject, lambda: handle(request))
        is_changing = method != "GET"
        try:
            await self.gate()
        except BaseException:
            # the hub died; what it allowed the broker for may still come to pass
            if is_changing:
                self.late.append(call)
            raise
        trouble = self.troubles.popleft() if self.troubles else None
        if trouble is Trouble.ERROR:
            return Reply(500, b'{"message": "something went wrong inside"}', "application/json")
        if trouble is Trouble.LATE:
            if is_changing:
                self.late.append(call)
            raise BrokerError(504, "Docker did not answer in time.")
        response = await handle(request)
        if trouble is Trouble.LOST:
            raise BrokerError(504, "Docker did not answer in time.")
        return _as_reply(response)

    async def land(self, index: int) -> None:
        """Let a late effect come."""
        await self.late.pop(index % len(self.late)).happen()

    def _route(
        self, method: str, path: str, query: Mapping[str, str]
    ) -> tuple[str, Callable[[Any], Awaitable[web.Response]], str]:
        parts = path.split("/")
        if parts[0] == "images":
            return "image", self._image, path.removeprefix("images/").removesuffix("/json")
        if parts[0] == "volumes":
            return "volume", self._volume, parts[1]
        if parts[-1] == "create":
            return "create", self._create, query.get("name", "")
        if path == "containers/json":
            return "list", self._list, ""
        handlers: dict[str, Callable[[Any], Awaitable[web.Response]]] = {
            "json": self._inspect,
            "start": self._start,
            "stop": self._stop,
            "wait": self._wait,
            "logs": self._logs,
        }
        if method == "DELETE":
            return "delete", self._delete, parts[1]
        return parts[2], handlers[parts[2]], parts[1]

    async def _start(self, request: web.Request) -> web.Response:
        response = await super()._start(request)
        if response.status == 204:
            container = self._get_container(request.match_info["subject"])
            moment = datetime.fromtimestamp(self._wall(), UTC)
            container.started_at = moment.isoformat().replace("+00:00", "Z")
        return response

    def _get_container(self, subject: str) -> FakeContainer:
        return next(c for c in self.containers.values() if subject in (c.name, c.id))


class QuickBroker(Broker):
    """The broker as it is, reading the ledger at once."""

    async def _in_ledger(self, read: Callable[[Ledger], _T]) -> _T:
        return read(self._open_ledger())

    async def _read_gpu_nodes(self) -> Mapping[str, frozenset[str]]:
        return {}

    async def do(self, allowed: AllowedRequest) -> Reply:
        """Do what an allowed request asks for; raises DockerError where the answer is an error."""
        return await _answer(self._reply_to(allowed, None))  # type: ignore[arg-type]

    async def create(self, name: str, body: dict[str, Any]) -> Reply:
        """Create a container; raises DockerError where the answer is an error."""
        return await _answer(self._create(name, body))


async def _answer(answering: Awaitable[Reply]) -> Reply:
    try:
        reply = await answering
    except BrokerError as refusal:
        raise DockerError(refusal.status, refusal.sentence) from refusal
    if reply.status >= 400:
        raise DockerError(reply.status, str(reply.parse().get("message")))
    return reply


def quick_containers(broker: QuickBroker, instance: str) -> Containers:
    """Return the product's client, which asks ``broker`` once and waits for nothing."""
    never = 1e6
    bounds = Timeouts(never, never, never, remove_seconds=0.0)
    containers = Containers("unused", instance, bounds)
    containers._client = _Client(broker)  # type: ignore[assignment]
    return containers


class _Client:
    """As much of aiodocker's client as the product uses."""

    def __init__(self, broker: QuickBroker) -> None:
        self._broker = broker
        self.images = SimpleNamespace(inspect=self._inspect)
        self.containers = SimpleNamespace(
            create=self._create, list=self._list, container=self._container
        )

    async def _inspect(self, tag: str) -> dict[str, Any]:
        return (await self._broker.do(AllowedRequest(Operation.IMAGE, tag, {}))).parse()

    async def _create(self, body: Mapping[str, Any], name: str) -> object:
        reply = await self._broker.create(name, dict(body))
        return SimpleNamespace(id=reply.parse()["Id"])

    async def _list(self, **_: object) -> list[Any]:
        reply = await self._broker.do(AllowedRequest(Operation.LIST, "", {"all": "true"}))
        return list(json.loads(reply.body))

    def _container(self, name: str) -> _Container:
        return _Container(self._broker, name)


class _Container:
    def __init__(self, broker: QuickBroker, name: str) -> None:
        self._broker = broker
        self._name = name

    async def _do(self, action: Operation, **query: str) -> Reply:
        return await self._broker.do(AllowedRequest(action, self._name, query))

    async def show(self) -> dict[str, Any]:
        return (await self._do(Operation.INSPECT)).parse()

    async def start(self) -> None:
        await self._do(Operation.START)

    async def stop(self, t: int) -> None:
        await self._do(Operation.STOP, t=str(t))

    async def delete(self) -> None:
        await self._do(Operation.REMOVE)

    async def wait(self) -> dict[str, Any]:
        return (await self._do(Operation.WAIT)).parse()

    async def log(self, **_: object) -> list[str]:
        return []


def _as_reply(response: web.Response) -> Reply:
    body = response.body
    return Reply(response.status, body if isinstance(body, bytes) else b"", response.content_type)
