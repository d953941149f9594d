"""Events: streams the ends of this instance's servers from Docker's event API.

An event only triggers an inspection and proves nothing. A gap reports that events may have been missed.
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

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
SILENCE_SECONDS = 30.0  # the broker sends a heartbeat long before
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class ContainerEnd:
    """The end of a server, as Docker reports it.

    ``exit_code`` is None if it was only removed. ``oom``: the kernel has killed one of its processes at its memory
    limit, which need not be the reason for the end.
    """

    name: str
    lease_id: str
    exit_code: int | None
    oom: bool
    is_removed: bool


@dataclass(frozen=True)
class EventGap:
    """An interruption of the stream: earlier ends may be missing, so every server needs an inspection."""


async def watch_ends(
    url: str, socket_path: str, instance: str
) -> AsyncIterator[ContainerEnd | EventGap]:
    """Yield every end without end, with an EventGap first and after each lost connection."""
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
        # the last four: an answer that does not have the shape of Docker's API
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
            log.warning(
                "No event stream from Docker, so servers are only polled: reason=%s", reason
            )
            is_lost = True
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)


class _Reader:
    """Reads the lines of one stream; remembers out-of-memory containers until they are removed."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._oom_ids: set[str] = set()

    def read(self, line: bytes) -> ContainerEnd | None:
        """Return the end that ``line`` reports, None for any other event; raises the errors of bad JSON."""
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
