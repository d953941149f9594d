"""The workbench that is loaded: the processes of the product, a faked Docker, and an agent with any number of GPUs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.load.clients import Plan
from spawner.model import LeaseState
from testing.eventually import eventually
from testing.paths import ROOT
from testing.process_stack import ProcessStack

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE = 200
_LINE_BYTES = 2**24
_DEADLINE_SECONDS = 300.0
_ALONE = 5
_QUIET_SECONDS, _QUIET_SHARE = 3.0, 0.25


@dataclass(frozen=True)
class Usage:
    """CPU time and peak memory of one process so far."""

    cpu_seconds: float
    most_memory_bytes: int


class LoadEnvironment(ProcessStack):
    """A stack whose agent knows so many ``gpus``."""

    def __init__(self, folder: Path, gpus: int, **settings: str) -> None:
        """Start nothing yet."""
        super().__init__(folder, gpus=0, **settings)
        self._gpu_count = gpus

    def start_agent(self) -> None:
        """Start an agent that needs no library for any number of GPUs."""
        self.start(
            "agent", sys.executable, "-m", "benchmarks.load.agent", "9201", str(self._gpu_count)
        )

    def usage(self, name: str = "hub") -> Usage:
        """Return what a process has used since it began."""
        folder = Path(f"/proc/{self.processes[name].pid}")
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        found = re.search(r"VmHWM:\s+(\d+) kB", (folder / "status").read_text())
        assert found is not None
        return Usage(ticks / _TICKS_PER_SECOND, int(found[1]) * 1024)

    async def share_of_a_core(self, seconds: float, name: str = "hub") -> float:
        """Return how much of one core a process uses during the next ``seconds``."""
        before, began = self.usage(name).cpu_seconds, time.monotonic()
        await asyncio.sleep(seconds)
        return (self.usage(name).cpu_seconds - before) / (time.monotonic() - began)

    @asynccontextmanager
    async def clients(self, plan: Plan) -> AsyncIterator[dict[str, Any]]:
        """Run the clients of ``plan`` and yield what they report; they end with the block."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.load.clients",
            json.dumps(asdict(plan)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            told: dict[str, Any] = json.loads(await process.stdout.readline())
            yield told
        finally:
            process.stdin.close()
            await process.wait()

    async def alone(self, gpus: int | None) -> float:
        """Return the median seconds from click to ready of a start without other load."""
        seconds: list[float] = []
        for number in range(_ALONE):
            async with self.clients(Plan([f"alone{number}"], None, gpus)) as told:
                (visit,) = told["visits"]
                assert visit["trouble"] is None, visit
                seconds.append(float(visit["ready_seconds"]))
        return sorted(seconds)[_ALONE // 2]

    def waiting(self) -> list[str]:
        """Return the ids of the leases that wait, in order of first come."""
        with self.ledger() as ledger:
            return [one.id for one in ledger.live_leases() if one.state is LeaseState.WAITING]

    async def until_logged(self, words: str, since: int) -> None:
        """Wait until the hub has written ``words`` into its log, behind its first ``since`` bytes."""
        log = self.folder / "hub.log"

        def is_logged() -> bool:
            assert self.processes["hub"].poll() is None, self.log("hub")
            return words.encode() in log.read_bytes()[since:]

        await eventually(is_logged, f"the hub logs {words!r}", seconds=_DEADLINE_SECONDS)

    async def until_served(self, count: int) -> None:
        """Wait until the hub lists ``count`` servers as ready."""

        async def is_ready() -> bool:
            return await self._ready() >= count

        await eventually(is_ready, f"{count} servers are ready", seconds=_DEADLINE_SECONDS)

    async def _ready(self) -> int:
        found = 0
        while True:
            page: dict[str, str | int] = {"state": "ready", "offset": found, "limit": _PAGE}
            listed = (await self.admin.get("users", params=page)).raise_for_status().json()
            found += len(listed)
            if len(listed) < _PAGE:
                return found

    async def until_waiting(self, count: int) -> None:
        """Wait until no more than ``count`` wait."""

        async def is_short() -> bool:
            return len(await asyncio.to_thread(self.waiting)) <= count

        await eventually(is_short, f"at most {count} wait", seconds=_DEADLINE_SECONDS)

    async def until_quiet(self) -> None:
        """Wait until the hub has little to do."""

        async def is_quiet() -> bool:
            return await self.share_of_a_core(_QUIET_SECONDS) <= _QUIET_SHARE

        await eventually(is_quiet, "the hub is quiet", seconds=_DEADLINE_SECONDS)
