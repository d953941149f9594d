"""``wb train`` listens on the container's loopback only, and is not guessable."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from train_helpers import processes_of, said, stop, training, wait_until
from workbench_toolkit.train.supervisor import training_processes

LISTEN = "0A"
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


def read_address(text: str) -> IPv4Address | IPv6Address:
    """Return the address of a line of ``/proc/net/tcp``: words of 32 bits, each in the host's byte order."""
    words = re.findall("[0-9A-F]{8}", text.partition(":")[0])
    return ip_address(b"".join(bytes.fromhex(word)[::-1] for word in words))


def read_listeners() -> dict[str, IPv4Address | IPv6Address]:
    """Return the address of every listening TCP socket of this network namespace, by inode."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path("/proc/net", name).read_text().splitlines()[1:]
    ]
    return {line[9]: read_address(line[1]) for line in lines if line[3] == LISTEN}


def sockets_of(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process has open."""
    links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return {link[8:-1] for link in links if link.startswith("socket:[")}


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


def test_a_training_listens_on_loopback_only(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    with training(tmp_path, "--nproc", 2, "--", path) as process:
        wait_until(lambda: said(tmp_path).count("is joined") == 2, "both ranks are joined")
        (agent,) = processes_of(["workbench_toolkit.train.agent", str(process.pid)])
        ranks = training_processes(agent)
        own = {pid: sockets_of(pid) for pid in (process.pid, agent, *ranks)}
        listeners = read_listeners()
        stop(process)
    assert len(ranks) == 2
    for pid in (agent, *ranks):
        assert own[pid] & listeners.keys(), f"process {pid} has no listener: this test sees nothing"
    found = {
        str(listeners[inode]) for inodes in own.values() for inode in inodes & listeners.keys()
    }
    assert found <= {"127.0.0.1", "::1"}


def test_the_id_of_a_run_has_128_random_bits(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text("import os; print('id', os.environ['TORCHELASTIC_RUN_ID'], flush=True)")
    ids = set()
    for _ in range(2):
        with training(tmp_path, "--", path) as process:
            assert process.wait(120) == 0, said(tmp_path)
        ids.add(re.findall(r"id .*-([0-9a-f]{32})$", said(tmp_path), re.MULTILINE)[0])
    assert len(ids) == 2
