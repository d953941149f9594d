"""Host addresses: those that the kernel calls local, outside loopback."""

from pathlib import Path

from spawner.guard.host_addresses import read_host_addresses
from spawner.guard_state import read_host_addresses as read_reported
from spawner.guard_state import write_guard_state

TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     +-- 172.17.0.0/16 2 0 2
        |-- 172.17.0.0
           /16 link UNICAST
        |-- 172.17.0.1
           /32 host LOCAL
        |-- 172.17.255.255
           /32 link BROADCAST
     |-- 192.0.2.7
        /32 host LOCAL
"""


def test_local_addresses_outside_loopback_are_read_and_reported(tmp_path: Path) -> None:
    (tmp_path / "fib_trie").write_text(TRIE)
    found = read_host_addresses(tmp_path / "fib_trie")
    assert found == {"172.17.0.1", "192.0.2.7"}
    write_guard_state(tmp_path / "state.json", "", found)
    assert read_reported(tmp_path / "state.json") == ("172.17.0.1", "192.0.2.7")
    assert read_reported(tmp_path / "missing.json") == ()
