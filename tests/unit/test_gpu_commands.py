"""``workbench gpus`` and ``workbench return-gpu``: what they print, and exit codes that a script can go by."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from spawner import cli
from spawner.gpus import Agent
from spawner.ledger import Ledger
from spawner.model import Drain, GpuHealth, Lease, LeaseState
from tests.unit.made import GPU_0, GPU_1, make_gpu, make_lease
from tests.unit.workshop import Host


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    monkeypatch.setattr(Agent, "inventory", lambda _: host.inventory())
    return host


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    monkeypatch.setenv("WORKBENCH_LEDGER_URL", url)
    opened = Ledger.open(url, first_uid=20000)
    yield opened
    opened.close()


@pytest.fixture
def lease(ledger: Ledger) -> Lease:
    lease = make_lease(gpu_uuids=(GPU_0,), state=LeaseState.RUNNING)
    assert ledger.adopt(lease)
    return lease


def fail(host: Host, ledger: Ledger) -> None:
    host.gpus[0] = replace(make_gpu(0), xid=79, xid_at=5.0)
    ledger.quarantine(GPU_0, "failed (Xid 79)", xid_at=5.0, now=1.0)


@pytest.mark.usefixtures("host", "lease")
def test_every_gpu_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gpus"]) == 0
    name = "NVIDIA A100-SXM4-80GB (simulated)"
    assert capsys.readouterr().out.splitlines() == [
        f"GPU 0, {name}, {GPU_0}, health ok, held by alice",
        f"GPU 1, {name}, {GPU_1}, health ok",
    ]


@pytest.mark.usefixtures("lease")
def test_a_quarantine_is_told_and_is_no_success(
    host: Host, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(host, ledger)
    assert cli.main(["gpus"]) == 1
    first, _ = capsys.readouterr().out.splitlines()
    assert ", held by alice, in quarantine since " in first
    assert first.endswith(": it failed (Xid 79)")
    assert cli.main(["gpus", "--json"]) == 1
    first, second = json.loads(capsys.readouterr().out)["gpus"]
    assert (first["uuid"], first["health"], first["holder"]) == (GPU_0, "ok", "alice")
    assert first["quarantine"]["reason"] == "failed (Xid 79)"
    assert first["drained"] is None
    assert second["quarantine"] is None


@pytest.mark.usefixtures("host", "lease")
def test_a_drain_is_told_and_is_no_illness(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.drain(Drain(GPU_0, "the fan is loud", "root", 1.0))
    assert cli.main(["gpus"]) == 0
    assert ", held by alice, drained: the fan is loud\n" in capsys.readouterr().out


def test_a_host_without_gpus(
    host: Host, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    host.gpus.clear()
    assert cli.main(["gpus"]) == 0
    assert capsys.readouterr().out == "This workbench has no GPU.\n"
    ledger.quarantine(GPU_0, "failed (Xid 79)", xid_at=5.0, now=1.0)
    assert cli.main(["gpus"]) == 1, "one that is in quarantine and is not seen any more"
    assert capsys.readouterr().out.startswith(f"{GPU_0}, health unknown, in quarantine")


async def test_a_gpu_is_returned_once(
    host: Host, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(host, ledger)
    assert await asyncio.to_thread(cli.main, ["return-gpu", GPU_0]) == 0
    assert capsys.readouterr().out == f"{GPU_0} can be given to people again.\n"
    (returned,) = ledger.last_quarantines()
    assert returned.returned_by == "the command line"
    assert (returned.returned_at or 0.0) > returned.since
    assert await asyncio.to_thread(cli.main, ["return-gpu", GPU_0]) == 1
    assert capsys.readouterr().err == "GPU 0 is in no quarantine here: nothing to return.\n"


def test_a_gpu_that_is_still_ill_stays(
    host: Host, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(host, ledger)
    host.gpus[0] = make_gpu(0, GpuHealth.LOST)
    assert cli.main(["return-gpu", GPU_0]) == 1
    assert "still is ill" in capsys.readouterr().err
    assert ledger.quarantines()


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("command", [["gpus"], ["return-gpu", GPU_0]])
def test_a_silent_agent_is_no_answer(
    host: Host, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    host.is_silent = True
    assert cli.main(command) == 2
    assert capsys.readouterr().err.startswith("Nobody knows how the GPUs are: ")


@pytest.mark.usefixtures("host")
def test_no_ledger_is_made_where_none_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKBENCH_LEDGER_URL", f"sqlite:///{tmp_path}/none.sqlite")
    assert cli.main(["gpus"]) == 2
    assert capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
