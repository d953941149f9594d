"""Listens to Docker's events for the ends of this instance's servers.

An event only says where to look: what it claims is proof of nothing, and what was missed is said to be missed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from spawner.policy.container import LABEL_INSTANCE, LABEL_LEASE, LABEL_ROLE, ROLE_SERVER

log = logging.getLogger("workbench.containers")

ANSWER_SECONDS = 10.0
SILENCE_SECONDS = 30.0  # the broker breaks every silence long before
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class ContainerEnd:
    """What Docker said of a server that ended.

    ``exit_code`` is None when it was only removed. ``oom``: the kernel has ended a process of it at its memory limit,
    which need not be why it ended.
    """

    name: str
    lease_id: str
    exit_code: int | None
    oom: bool
    is_removed: bool


@dataclass(frozen=True)
class EventGap:
    """Whatever ended before now may have been missed: look at every server."""


async def watch_ends(url: str, socket_path: str, instance: str) -> AsyncIterator[ContainerEnd | EventGap]:
    """Yield every end for ever, with a EventGap first and after each connection that was lost."""
    pause_seconds, is_lost = FIRST_PAUSE_SECONDS, False
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=ANSWER_SECONDS, sock_read=SILENCE_SECONDS
    )
    while True:
        reason = "the stream ended"
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket_path)) as session,
                session.get(url, timeout=timeout, raise_for_status=True) as response,
            ):
                pause_seconds, is_lost = FIRST_PAUSE_SECONDS, False
                reader = _Reader(instance)
                yield EventGap()
                async for line in response.content:
                    ended = reader.read(line)
                    if ended is not None:
                        yield ended
        # the last ones: an answer, but not of Docker's shape
        except (
            aiohttp.ClientError,
            OSError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            reason = repr(error)
        if not is_lost:
            log.warning("Docker's events are not heard, so servers are only polled: %s", reason)
            is_lost = True
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)


class _Reader:
    """Reads the lines of one stream; remembers who ran out of memory until it ends."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._oom_ids: set[str] = set()

    def read(self, line: bytes) -> ContainerEnd | None:
        """Return the end that ``line`` tells of, None for anything else; raises what bad JSON does."""
        if not line.strip():
            return None
        event: Mapping[str, Any] = json.loads(line)
        action, container_id = event["Action"], event["Actor"]["ID"]
        seen: Mapping[str, str] = event["Actor"]["Attributes"]
        if seen.get(LABEL_INSTANCE) != self._instance or seen.get(LABEL_ROLE) != ROLE_SERVER:
            return None
        if action == "oom":
            self._oom_ids.add(container_id)
            return None
        if action not in ("die", "destroy"):
            return None
        oom = container_id in self._oom_ids
        if action == "destroy":
            self._oom_ids.discard(container_id)
        return ContainerEnd(
            name=seen["name"],
            lease_id=seen.get(LABEL_LEASE, ""),
            exit_code=int(seen["exitCode"]) if action == "die" else None,
            oom=oom,
            is_removed=action == "destroy",
        )
