"""The users' network of the fake Docker Engine: every running container has a name, an address and an answer.

An address is free again the moment its container ends, and the lowest free one is given next. A hub that remembers
addresses instead of names soon reaches another user's server.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import socket
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from ipaddress import IPv4Address

from aiohttp import web

from testing.fakes.docker_container import FakeContainer
from testing.fakes.docker_engine import FakeEngine
from testing.fakes.name_server import ADDRESS, PORT, NameServer

FIRST_ADDRESS = IPv4Address("127.66.0.1")
SERVER_PORT = 8888
JUPYTERHUB = version("jupyterhub")
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Network:
    """Give it the names of the hosts that are no containers, ``engine``, and a loopback device of its own.

    Each container answers every request with who it is: ``{"container", "user", "server"}``. ``mute`` are the names
    of those that accept connections and answer nothing. ``pages`` answers for all servers of a user, by user name.
    """

    def __init__(self, engine: FakeEngine, hosts: dict[str, str]) -> None:
        """Start without a listener."""
        self.addresses = dict(hosts)
        self.mute: set[str] = set()
        self.pages: dict[str, Answer] = {}
        self._engine = engine
        self._free: list[int] = []
        self._used = 0
        self._listeners: dict[str, _Listener] = {}

    async def __aenter__(self) -> Network:
        """Answer for names, and add each container that starts from now on."""
        loop = asyncio.get_running_loop()
        self._name_server, _ = await loop.create_datagram_endpoint(
            lambda: NameServer(self.addresses), local_addr=(ADDRESS, PORT)
        )
        self._engine.on_run, self._engine.on_end = self._join, self._leave
        return self

    async def __aexit__(self, *_: object) -> None:
        """Remove all containers."""
        for listener in self._listeners.values():
            listener.close()
        self._name_server.close()

    def _join(self, container: FakeContainer) -> None:
        self._used += not self._free
        number = heapq.heappop(self._free) if self._free else self._used
        address = str(FIRST_ADDRESS + number - 1)
        self.addresses[container.name] = address
        self._listeners[container.name] = _Listener(container, number, address, self)

    def _leave(self, container: FakeContainer) -> None:
        del self.addresses[container.name]
        listener = self._listeners.pop(container.name)
        listener.close()
        heapq.heappush(self._free, listener.number)


class _Listener:
    """The server at one container's address."""

    def __init__(
        self, container: FakeContainer, number: int, address: str, network: Network
    ) -> None:
        self.number = number
        self._container = container
        self._network = network
        labels = container.body["Labels"]
        who = {"container": container.name, "user": labels["workbench.user"]}
        self._who = json.dumps({**who, "server": labels["workbench.server"]}).encode()
        self._server = web.Server(self._answer, access_log=None)
        # listens at once: a port that is not open yet would be probed again
        self._socket = socket.create_server((address, SERVER_PORT), backlog=128)
        self._opening = asyncio.ensure_future(
            asyncio.get_running_loop().create_server(self._server, sock=self._socket)
        )

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._container.name in self._network.mute:
            await asyncio.Event().wait()
        await request.content.read()
        user = self._container.body["Labels"]["workbench.user"]
        if user in self._network.pages:
            return await self._network.pages[user](request)
        headers = {"Content-Type": "application/json", "X-JupyterHub-Version": JUPYTERHUB}
        return web.Response(body=self._who, headers=headers)

    def close(self) -> None:
        """Break every connection, as the end of a process does."""
        self._opening.cancel()
        if self._opening.done() and not self._opening.cancelled():
            self._opening.result().close()
        self._socket.close()
        for connection in self._server.connections:
            if connection.transport is not None:
                connection.transport.abort()
