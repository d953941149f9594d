"""``wb train`` listens on loopback only, and the id of a run is unguessable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from listeners import LOOPBACK, addresses_of, read_address
from train_helpers import output_of, processes_of, stop, training, wait_until
from workbench_toolkit.train.supervisor import training_processes

SCRIPT = """
import time
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
dist.all_reduce(torch.ones(1), group=dist.new_group(backend="gloo"))
print(f"rank {dist.get_rank()} is joined", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F:9EEB", "127.0.0.1"),
        ("00000000:1F40", "0.0.0.0"),
        ("00000000000000000000000000000000:9457", "::"),
        ("00000000000000000000000001000000:0050", "::1"),
        ("0000000000000000FFFF00000100007F:0050", "::ffff:127.0.0.1"),
    ],
)
def test_addresses_are_read(text: str, address: str) -> None:
    assert read_address(text) == ip_address(address)


def joined(folder: Path) -> Iterator[Path]:
    """Yield the log of every rank that is joined."""
    for log in (folder / "runs").rglob("stdout.log"):
        if "is joined" in log.read_text():
            yield log


def test_a_training_listens_on_loopback_only(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    with training(tmp_path, "--nproc", 2, "--", path) as process:
        wait_until(lambda: len(list(joined(tmp_path))) == 2, "both ranks are joined")
        (agent,) = processes_of(["workbench_toolkit.train.agent", str(process.pid)])
        ranks = training_processes(agent)
        found = {pid: addresses_of(pid) for pid in (process.pid, agent, *ranks)}
        stop(process)
    assert len(ranks) == 2
    assert all(found[pid] for pid in (agent, *ranks)), "a process without a listener: look again"
    assert set().union(*found.values()) <= LOOPBACK


def test_the_id_of_a_run_has_128_random_bits(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text("import os; print('id', os.environ['TORCHELASTIC_RUN_ID'], flush=True)")
    ids = set()
    for _ in range(2):
        with training(tmp_path, "--", path) as process:
            assert process.wait(120) == 0, output_of(tmp_path)
        ids.add(re.findall(r"id .*-([0-9a-f]{32})$", output_of(tmp_path), re.MULTILINE)[0])
    assert len(ids) == 2
