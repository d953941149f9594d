"""Memory watch: a notebook whose kernel was ended for memory is named, with its size and the limit."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import eventually
from gpu_panel.memory_watch import MemoryWatch
from gpu_panel.notices import Notices
from gpu_panel.server_reading import ServerReader, read_cpu_seconds, read_kills

QUICK_SECONDS = 0.02


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    """Return a folder with the files of a cgroup."""
    folder = tmp_path / "cgroup"
    folder.mkdir()
    for name, text in {
        "memory.events": "low 0\noom 0\noom_kill 1\n",
        "memory.max": f"{2 * 1024**3}\n",
        "memory.current": "3000\n",
        "memory.stat": "anon 1000\ninactive_file 500\n",
        "cpu.max": "150000 100000\n",
        "cpu.stat": "usage_usec 1000000\n",
    }.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("is_kernel", [True, False])
async def test_the_end_of_a_kernel_for_memory_is_a_notice(
    cgroup: Path, tmp_path: Path, is_kernel: bool
) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=PIPE)
    kernel = SimpleNamespace(provisioner=SimpleNamespace(pid=process.pid))
    kernels = SimpleNamespace(list_kernel_ids=lambda: ["k"], get_kernel=lambda _: kernel)

    async def list_sessions() -> list[dict[str, Any]]:
        return [{"kernel": {"id": "k"}, "path": "a/train.ipynb"}]

    notices = Notices(tmp_path / "none")
    watch = MemoryWatch(
        kernels, list_sessions, notices, cgroup=cgroup, period_seconds=QUICK_SECONDS
    )
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(10 * QUICK_SECONDS)
    assert notices.all == ()
    if is_kernel:
        process.kill()
    (cgroup / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    await eventually(lambda: bool(notices.all))
    await asyncio.sleep(5 * QUICK_SECONDS)
    task.cancel()
    if not is_kernel:
        process.kill()
    await process.wait()
    assert len(notices.all) == 1
    notice = notices.all[0]
    subject = "a/train.ipynb: its kernel was ended" if is_kernel else "A process of this server"
    assert notice.startswith(subject)
    assert "This server may use 2.0 GiB" in notice


def test_a_server_is_read_from_its_cgroup(cgroup: Path, tmp_path: Path) -> None:
    times = iter((10.0, 12.0))
    reader = ServerReader(tmp_path, cgroup, lambda: next(times))
    first = reader()
    assert (first.cpu_cores, first.cpu_cores_limit) == (None, 1.5)
    assert (first.memory_used_bytes, first.memory_limit_bytes) == (2500, 2 * 1024**3)
    assert first.disk_total_bytes
    (cgroup / "cpu.stat").write_text("usage_usec 4000000\n")
    (cgroup / "memory.max").write_text("max\n")
    second = reader()
    assert (second.cpu_cores, second.memory_limit_bytes) == (1.5, None)


def test_version_1_of_cgroups_is_read_too(tmp_path: Path) -> None:
    for name, text in {
        "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        "memory/memory.limit_in_bytes": "2000\n",
        "memory/memory.usage_in_bytes": "1500\n",
        "memory/memory.stat": "total_inactive_file 500\n",
        "cpu/cpu.cfs_quota_us": "150000\n",
        "cpu/cpu.cfs_period_us": "100000\n",
        "cpuacct/cpuacct.usage": "2500000000\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    reading = ServerReader(tmp_path, tmp_path)()
    assert (reading.memory_used_bytes, reading.memory_limit_bytes) == (1000, 2000)
    assert reading.cpu_cores_limit == 1.5
    assert (read_cpu_seconds(tmp_path), read_kills(tmp_path)) == (2.5, 3)
    (tmp_path / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    unlimited = ServerReader(tmp_path, tmp_path)()
    assert (unlimited.memory_limit_bytes, unlimited.cpu_cores_limit) == (None, None)


def test_without_a_cgroup_everything_is_unknown(tmp_path: Path) -> None:
    reading = ServerReader(tmp_path / "none", tmp_path / "none")()
    assert {*vars(reading).values()} == {None}


def test_notices_of_a_start_come_first_and_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "notices").write_text("one\n\ntwo  words\none\n")
    notices = Notices(tmp_path / "notices")
    assert notices.all == ("two words", "one")
    for number in range(20):
        notices.add(f"{number} " + "x" * 1000)
    assert len(notices.all) == 10
    assert len(notices.all[0]) == 500
