"""Log tail: reads the end of a container's log without holding the whole of it.

A server's user decides the length of each line, so the number of lines alone bounds nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus

import aiohttp

from spawner.broker.engine import Engine, Reply
from spawner.broker.errors import BrokerError

MAX_BYTES = 256 * 1024
_LOG_SECONDS = 30.0
_PLAIN = "application/vnd.docker.raw-stream"  # of a container with a terminal
_HEADER_BYTES = 8  # of Docker's multiplexed stream: the last four hold the length of the frame


async def read_log_tail(engine: Engine, path: str, query: Mapping[str, str]) -> Reply:
    """Return the last whole pieces of a log, ``MAX_BYTES`` at most; raises BrokerError."""
    try:
        async with asyncio.timeout(_LOG_SECONDS), engine.follow(path, query) as response:
            if response.status != HTTPStatus.OK:
                return Reply(response.status, await response.read(), response.content_type)
            is_plain = response.content_type == _PLAIN
            pieces = response.content.iter_any() if is_plain else _read_frames(response.content)
            frames: deque[bytes] = deque()
            total = 0
            async for frame in pieces:
                frames.append(frame)
                total += len(frame)
                while total > MAX_BYTES:
                    total -= len(frames.popleft())
            return Reply(response.status, b"".join(frames), response.content_type)
    except TimeoutError as error:
        raise BrokerError(504, f"Docker sent no whole log within {_LOG_SECONDS:g} s.") from error
    except aiohttp.ClientError as error:
        raise BrokerError(503, "Docker interrupted a log.") from error


async def _read_frames(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    while True:
        try:
            header = await content.readexactly(_HEADER_BYTES)
            size = int.from_bytes(header[4:], "big")
            if size > MAX_BYTES:
                raise BrokerError(502, f"One line of the log has {size} bytes.")
            yield header + await content.readexactly(size)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise BrokerError(502, "Docker's log ends within a line.") from error
            return
