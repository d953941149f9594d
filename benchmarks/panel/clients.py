"""Plays N people who look at a GPU dashboard, and one who uses the same server.

Needs tornado; prints one JSON object (see ``measure``) and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, websocket_connect

WARM_UP_SECONDS = 3.0
REQUEST_PAUSE_SECONDS = 0.05


class Sockets:
    """The open sockets of all clients, and the bytes that came through them."""

    def __init__(self) -> None:
        self.received_bytes = 0
        self._listeners: list[asyncio.Task[None]] = []

    async def open(self, url: str, first_word: str) -> None:
        """Open a socket, say ``first_word`` unless it is empty, and listen from then on."""
        socket = await websocket_connect(url)
        if first_word:
            await socket.write_message(first_word)
        self._listeners.append(asyncio.create_task(self._listen(socket)))

    def check(self) -> None:
        """Raise what a listener met: a figure without all its clients is none."""
        for listener in self._listeners:
            if listener.done():
                listener.result()

    async def _listen(self, socket: WebSocketClientConnection) -> None:
        while (message := await socket.read_message()) is not None:
            self.received_bytes += len(message)
        raise ConnectionError("the server closed a socket")


def read_cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, summed over its threads."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


async def measure_latency(url: str, seconds: float) -> list[float]:
    """Return the times, in milliseconds and ascending, of requests made one after the other."""
    client = AsyncHTTPClient()
    latencies = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        await client.fetch(url)
        latencies.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(REQUEST_PAUSE_SECONDS)
    return sorted(latencies)


async def measure(given: argparse.Namespace) -> dict[str, float]:
    """Return processor time, bytes and latencies of the server with so many clients.

    The latency is taken in a phase of its own, so that its requests cost no other figure.
    """
    sockets = Sockets()
    for _ in range(given.clients):
        for path in given.path:
            url = f"ws://127.0.0.1:{given.port}/{path}?token={given.token}"
            await sockets.open(url, given.first_word)
    await asyncio.sleep(WARM_UP_SECONDS)
    began, cpu, received = time.perf_counter(), read_cpu_seconds(given.pid), sockets.received_bytes
    await asyncio.sleep(given.seconds)
    seconds = time.perf_counter() - began
    cpu, received = read_cpu_seconds(given.pid) - cpu, sockets.received_bytes - received
    status = f"http://127.0.0.1:{given.port}/api/status?token={given.token}"
    latencies = await measure_latency(status, given.seconds / 3)
    sockets.check()
    return {
        "cpu_seconds_per_hour": 3600 * cpu / seconds,
        "bytes_per_second_per_client": received / seconds / max(given.clients, 1),
        "latency_median_ms": latencies[len(latencies) // 2],
        "latency_p99_ms": latencies[int(0.99 * len(latencies))],
    }


def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pid", type=int, required=True, help="of the server")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--first-word", default="", help="what each socket says once opened")
    parser.add_argument("--path", action="append", required=True, help="a client's socket; several")
    print(json.dumps(asyncio.run(measure(parser.parse_args()))))


if __name__ == "__main__":
    main()
