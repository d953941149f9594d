"""Memory watch: notices when the kernel of the system ends a process of this server for memory, and names the notebook.

The cgroup counts such ends. A notebook's kernel restarts by itself, so its last size is read while it lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_panel.notices import Notices
from gpu_panel.server_reading import CGROUP, read_kills, read_memory_limit

PERIOD_SECONDS = 0.5
PROC = Path("/proc")
_PAGE_BYTES = 4096

ListSessions = Callable[[], Awaitable[list[dict[str, Any]]]]


@dataclass(frozen=True)
class KernelProcess:
    """The process of a notebook's kernel, and its memory when it was read."""

    pid: int
    resident_bytes: int


class MemoryWatch:
    """Watches the kernels of one server; each end for memory becomes a notice."""

    def __init__(
        self,
        kernels: Any,  # noqa: ANN401 - Jupyter's kernel manager
        list_sessions: ListSessions,
        notices: Notices,
        *,
        cgroup: Path = CGROUP,
        proc: Path = PROC,
        period_seconds: float = PERIOD_SECONDS,
    ) -> None:
        self._kernels = kernels
        self._list_sessions = list_sessions
        self._notices = notices
        self._cgroup = cgroup
        self._proc = proc
        self._period_seconds = period_seconds

    async def run(self) -> None:
        """Watch until cancelled."""
        ended = self._read_ended()
        processes: Mapping[str, KernelProcess] = {}
        while True:
            await asyncio.sleep(self._period_seconds)
            before, ended = ended, self._read_ended()
            if before is not None and ended is not None and ended > before:
                await self._report(processes)
            processes = self._read_processes()

    def _read_ended(self) -> int | None:
        return read_kills(self._cgroup)

    def _read_processes(self) -> dict[str, KernelProcess]:
        found = {}
        for kernel_id in self._kernels.list_kernel_ids():
            pid = getattr(self._kernels.get_kernel(kernel_id).provisioner, "pid", None)
            resident = None if pid is None else self._read_resident(pid)
            if pid is not None and resident:
                found[kernel_id] = KernelProcess(pid, resident)
        return found

    def _read_resident(self, pid: int) -> int | None:
        """Return the memory of a process, None for one that ended; 0 while its end is not collected."""
        try:
            pages = (self._proc / str(pid) / "statm").read_text(encoding="utf-8").split()[1]
        except (OSError, IndexError):
            return None
        return int(pages) * _PAGE_BYTES

    async def _report(self, processes: Mapping[str, KernelProcess]) -> None:
        gone = {id_: one for id_, one in processes.items() if not self._read_resident(one.pid)}
        limit = read_memory_limit(self._cgroup)
        may = (
            ""
            if limit is None
            else f" This server may use {format_gib(limit)}, files in /tmp included."
        )
        paths = {one["kernel"]["id"]: one["path"] for one in await self._list_sessions()}
        for kernel_id, process in gone.items():
            self._notices.add(
                f"{paths.get(kernel_id, 'A notebook')}: its kernel was ended because the memory was used up, and its "
                f"variables are lost. It had at least {format_gib(process.resident_bytes)}.{may} Use less data at a "
                "time, or shut down other notebooks."
            )
        if not gone:
            self._notices.add(
                f"A process of this server was ended because the memory was used up.{may} Use less data at a time, "
                "or shut down other notebooks."
            )


def format_gib(size_bytes: int) -> str:
    """Return a size as text."""
    return f"{size_bytes / 1024**3:.1f} GiB"
