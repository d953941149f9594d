"""Engine: sends the broker's own requests to the Docker socket.

It forwards no part of a client's request line, headers or body: the broker builds each request itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from spawner.broker.errors import BrokerError

API_VERSION = "v1.44"  # Docker 25, the first with CDI


@dataclass(frozen=True)
class Reply:
    """An answer of the Docker daemon."""

    status: int
    body: bytes
    content_type: str

    def parse(self) -> dict[str, Any]:
        """Return the JSON object of the answer; raises BrokerError (502)."""
        parsed = self._parse()
        if not isinstance(parsed, dict):
            raise BrokerError(502, "Docker's answer is not a JSON object.")
        return parsed

    def parse_list(self) -> list[dict[str, Any]]:
        """Return the JSON list of objects of the answer; raises BrokerError (502)."""
        parsed = self._parse()
        if not isinstance(parsed, list) or not all(isinstance(one, dict) for one in parsed):
            raise BrokerError(502, "Docker's answer is not a list of JSON objects.")
        return parsed

    def _parse(self) -> object:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise BrokerError(502, "Docker's answer cannot be read.") from error


class Engine:
    """One Docker daemon behind a unix socket."""

    def __init__(self, socket_path: str) -> None:
        """Open no connection yet; call inside the running loop."""
        self._socket_path = socket_path
        connector = aiohttp.UnixConnector(socket_path, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        seconds: float = 30.0,
    ) -> Reply:
        """Return the daemon's answer, whatever its status; raises BrokerError (503, 504)."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        url = _url(path, query)
        with self._failing(seconds):
            async with self._session.request(method, url, json=body, timeout=timeout) as response:
                return Reply(response.status, await response.read(), response.content_type)

    @asynccontextmanager
    async def follow(
        self, path: str, query: Mapping[str, str], seconds: float = 30.0
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield an answer with an endless body; raises BrokerError (503, 504) if it does not begin."""
        timeout = aiohttp.ClientTimeout(total=None)
        with self._failing(seconds):
            async with asyncio.timeout(seconds):
                response = await self._session.get(_url(path, query), timeout=timeout)
        async with response:
            yield response

    @contextmanager
    def _failing(self, seconds: float) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise BrokerError(504, f"Docker did not answer within {seconds:g} s.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise BrokerError(
                503, f"Docker does not answer on {self._socket_path}: start the Docker daemon."
            ) from error


def _url(path: str, query: Mapping[str, str] | None) -> URL:
    return URL.build(scheme="http", host="docker", path=f"/{API_VERSION}/{path}", query=query)
