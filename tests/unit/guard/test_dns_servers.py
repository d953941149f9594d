"""DNS servers: which addresses Docker asks from a container's own network."""

from pathlib import Path

import pytest

from spawner.guard.dns_servers import read_dns_servers


@pytest.mark.parametrize(
    ("first", "second", "servers"),
    [
        (
            "nameserver 10.1.1.53\nnameserver 10.1.1.54\nsearch lab\n",
            "",
            {"10.1.1.53", "10.1.1.54"},
        ),
        ("nameserver 127.0.0.53\n", "nameserver 10.1.1.53\n", {"10.1.1.53"}),
        ("nameserver 10.1.1.53\n", "nameserver 10.9.9.9\n", {"10.1.1.53"}),
        ("nameserver 10.1.1.530\nnameserver 10.1.1.53\n", "", {"10.1.1.53"}),
        ("nameserver 127.0.0.1\n", "", set()),
        ("#nameserver 10.1.1.53\nnameserver fd00::53\n", "", set()),
    ],
)
def test_loopback_is_asked_by_docker_itself(
    tmp_path: Path, first: str, second: str, servers: set[str]
) -> None:
    files = (tmp_path / "resolv.conf", tmp_path / "resolved.conf", tmp_path / "missing")
    files[0].write_text(first)
    files[1].write_text(second)
    assert {str(address) for address in read_dns_servers(files)} == servers
