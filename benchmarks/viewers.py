"""Measures what viewers of the GPU page cost the hub: ``python -m benchmarks.viewers [--viewers 500] [--gpus 8 512]``.

Hub and proxy are the product's own processes; Docker and the agent are faked, and every GPU's sample changes each
second. The figure is the CPU time of the hub's process with so many viewers, less its CPU time without any. Ratios are
to one viewer in the same run. Needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

from benchmarks.load.load_env import LoadEnvironment
from testing.people import URL

STREAM = f"{URL}/hub/api/workbench/gpus/stream"
SETTLE_SECONDS, MEASURED_SECONDS = 5.0, 20.0
NEWS = b"event: changes"


@dataclass(frozen=True)
class Figures:
    """The cost of ``viewers`` of ``gpus``: shares of one core, and events per viewer and second."""

    gpus: int
    viewers: int
    nobody_share: float
    one_share: float
    share: float
    news_per_second: float

    @property
    def ratio(self) -> float:
        """Return how many times as much as one viewer they cost."""
        return self.share / max(self.one_share, 1e-6)

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"{self.gpus:4} GPUs: {self.viewers} viewers cost {self.share:.1%} of a core, one {self.one_share:.1%} "
            f"(ratio {self.ratio:.1f}); each is told {self.news_per_second:.2f} times a second"
        )


class StreamReaders:
    """All readers of the stream; ``news`` counts the events of all of them."""

    def __init__(self, token: str) -> None:
        """Start without a reader."""
        self._headers = {"Authorization": f"token {token}"}
        self.news = 0

    async def read(self, session: aiohttp.ClientSession) -> None:
        """Read until cancelled."""
        async with session.get(STREAM, headers=self._headers) as answer:
            answer.raise_for_status()
            async for chunk in answer.content.iter_any():
                self.news += chunk.count(NEWS)


async def _share(env: LoadEnvironment, readers: StreamReaders, viewers: int) -> tuple[float, float]:
    """Return the hub's share of a core, and the news per viewer and second, while so many look."""
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=connector, timeout=timeout)
        )
        reading = [asyncio.create_task(readers.read(session)) for _ in range(viewers)]
        await asyncio.sleep(SETTLE_SECONDS + viewers / 50)
        before, began = readers.news, time.monotonic()
        share = await env.share_of_a_core(MEASURED_SECONDS)
        told = (readers.news - before) / (time.monotonic() - began)
        assert not [one for one in reading if one.done()], "somebody reads no more"
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    return share, told / viewers if viewers else 0.0


async def measure(folder: Path, gpus: int, viewers: int) -> Figures:
    """Return what so many viewers of so many GPUs cost, in a stack of their own."""
    async with LoadEnvironment(folder, gpus) as env:
        readers = StreamReaders(env.admin.headers["Authorization"].removeprefix("token "))
        await env.until_quiet()
        nobody, _ = await _share(env, readers, 0)
        one, _ = await _share(env, readers, 1)
        share, news = await _share(env, readers, viewers)
    return Figures(gpus, viewers, nobody, one - nobody, share - nobody, news)


def main() -> None:
    """Measure for each number of GPUs; print a line of each, and write all as JSON when asked."""
    parser = argparse.ArgumentParser("python -m benchmarks.viewers", description=__doc__)
    parser.add_argument("--viewers", type=int, default=500)
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 512])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = []
    for gpus in options.gpus:
        with tempfile.TemporaryDirectory() as folder:
            found.append(asyncio.run(measure(Path(folder), gpus, options.viewers)))
        print(found[-1], flush=True)
    if options.json:
        rows = [{**asdict(one), "ratio": one.ratio} for one in found]
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
