"""Sampler: reads the GPUs once per period and sends one message to all sockets.

It runs while there is a client, at a period that no client can change.
Readings run in one worker thread, never on the event loop, and are serialized once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from gpu_panel.lease import LeaseWatch
from gpu_panel.message import Reading, ServerReading, build_message
from gpu_panel.notices import Notices

PERIOD_SECONDS = 1.0
HISTORY_SECONDS = 300.0


class Client(Protocol):
    """A receiver of messages; ``deliver`` never blocks."""

    def deliver(self, message: bytes) -> None:
        """Send one message or drop it."""


class Sampler:
    """The reading loop and its clients; it watches the lease while it runs."""

    def __init__(
        self,
        read: Callable[[], Reading],
        lease: LeaseWatch,
        log: logging.Logger,
        period_seconds: float = PERIOD_SECONDS,
        *,
        read_server: Callable[[], ServerReading] = ServerReading,
        notices: Notices | None = None,
    ) -> None:
        self._read = read
        self._read_server = read_server
        self._notices = notices
        self._lease = lease
        self._log = log
        self._period_seconds = period_seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gpu-panel")
        self._clients: set[Client] = set()
        self._new_clients: set[Client] = set()
        self._history: deque[Reading] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the loop runs, which is while there is a client."""
        return self._task is not None

    def join(self, client: Client) -> None:
        """Add ``client`` from the next reading on; its first message carries the history."""
        self._new_clients.add(client)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._on_done)

    def leave(self, client: Client) -> None:
        """Remove ``client``; without clients the loop stops."""
        self._clients.discard(client)
        self._new_clients.discard(client)
        if not (self._clients or self._new_clients) and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._lease.watching():
            due = loop.time()
            while True:
                reading = await loop.run_in_executor(self._thread, self._read)
                server = await loop.run_in_executor(self._thread, self._read_server)
                self._publish(reading, server)
                due = max(due + self._period_seconds, loop.time())
                await asyncio.sleep(due - loop.time())

    def _publish(self, reading: Reading, server: ServerReading) -> None:
        lease = self._lease.view()
        notices = () if self._notices is None else self._notices.all
        oldest = reading.sampled_at - HISTORY_SECONDS
        while self._history and self._history[0].sampled_at < oldest:
            self._history.popleft()
        if self._new_clients:
            message = build_message(
                reading, self._period_seconds, self._history, lease, server, notices
            )
            for client in self._new_clients:
                client.deliver(message)
        if self._clients:
            message = build_message(
                reading, self._period_seconds, lease=lease, server=server, notices=notices
            )
            for client in self._clients:
                client.deliver(message)
        self._clients |= self._new_clients
        self._new_clients = set()
        self._history.append(reading)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._log.error("sampler state=failed", exc_info=task.exception())
            self._task = None
