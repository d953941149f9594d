"""The process stack itself: everything is there, who answers is one's own, and nothing of it is left outside."""

import asyncio
import socket
from pathlib import Path

import pytest

from testing.netns import enclosed
from testing.process_stack import ProcessStack


def where() -> list[str]:
    return [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("net", "mnt")]


def test_the_network_ends_with_its_block(tmp_path: Path) -> None:
    outside = where()
    names = Path("/etc/resolv.conf").read_text()
    with pytest.raises(ZeroDivisionError), enclosed(tmp_path):
        assert set(where()).isdisjoint(outside)
        assert Path("/etc/resolv.conf").read_text() != names
        _ = 1 / 0
    assert where() == outside
    assert Path("/etc/resolv.conf").read_text() == names


async def test_a_server_runs_and_goes(stack: ProcessStack) -> None:
    alice = await stack.running("alice")
    hers = stack.container("alice")
    assert await alice.visit() == {"container": hers.name, "user": "alice", "server": ""}
    found = await asyncio.to_thread(socket.gethostbyname, hers.name)
    assert found == stack.network.addresses[hers.name]
    assert await stack.audit() == ()
    await alice.stop()
    assert stack.engine.containers == {}
    assert await alice.visit() is None
    with pytest.raises(socket.gaierror):
        await asyncio.to_thread(socket.gethostbyname, hers.name)
