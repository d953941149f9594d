"""The one sampler behind all sockets.

It runs while there is a client, at a period that no client can change, and never on the event
loop: readings are made in one worker thread and serialized once for everybody.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from gpu_panel.lease import LeaseWatch
from gpu_panel.message import Reading, build_message

PERIOD_SECONDS = 1.0
HISTORY_SECONDS = 300.0


class Client(Protocol):
    """Whoever listens; ``deliver`` returns at once, whatever becomes of the message."""

    def deliver(self, message: bytes) -> None:
        """Take one message or drop it."""


class Sampler:
    """Reads once per period and hands the message to every client that has joined.

    The lease is watched as long as it runs.
    """

    def __init__(
        self,
        read: Callable[[], Reading],
        lease: LeaseWatch,
        log: logging.Logger,
        period_seconds: float = PERIOD_SECONDS,
    ) -> None:
        self._read = read
        self._lease = lease
        self._log = log
        self._period_seconds = period_seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gpu-panel")
        self._clients: set[Client] = set()
        self._newcomers: set[Client] = set()
        self._history: deque[Reading] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the loop is at work, that is: whether anybody listens."""
        return self._task is not None

    def join(self, client: Client) -> None:
        """Serve ``client`` from the next reading on; its first message carries the history."""
        self._newcomers.add(client)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._ended)

    def leave(self, client: Client) -> None:
        """Forget ``client``; the last one out stops the loop."""
        self._clients.discard(client)
        self._newcomers.discard(client)
        if not (self._clients or self._newcomers) and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._lease.watching():
            due = loop.time()
            while True:
                reading = await loop.run_in_executor(self._thread, self._read)
                self._publish(reading)
                due = max(due + self._period_seconds, loop.time())
                await asyncio.sleep(due - loop.time())

    def _publish(self, reading: Reading) -> None:
        lease = self._lease.view()
        oldest = reading.sampled_at - HISTORY_SECONDS
        while self._history and self._history[0].sampled_at < oldest:
            self._history.popleft()
        if self._newcomers:
            message = build_message(reading, self._period_seconds, self._history, lease)
            for client in self._newcomers:
                client.deliver(message)
        if self._clients:
            message = build_message(reading, self._period_seconds, lease=lease)
            for client in self._clients:
                client.deliver(message)
        self._clients |= self._newcomers
        self._newcomers = set()
        self._history.append(reading)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._log.error("GPU panel: the sampler failed", exc_info=task.exception())
            self._task = None
