"""Guard: what it reports, of a host on which something is missing too."""

import ipaddress
import threading
from pathlib import Path

import pytest

from spawner.guard import guard as guard_module
from spawner.guard.firewall import Firewall
from spawner.guard.guard import Guard, keep
from spawner.guard.second_wall import SecondWall
from spawner.guard_state import require_guard
from spawner.model import Unknown
from spawner.policy.network import UsersNetwork, build_egress

NETWORK = UsersNetwork(
    "wb-01234567", ("wbc-01234567", "wba-01234567"), ipaddress.IPv4Network("172.28.0.0/16")
)

OPEN = build_egress("open", ())


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose firewall keeps everything, with the bridge and the switch of the kernel."""
    monkeypatch.setattr(Firewall, "ensure", lambda *_: False)
    monkeypatch.setattr(SecondWall, "ensure", lambda *_: False)
    monkeypatch.setattr(guard_module, "INTERFACES", tmp_path)
    monkeypatch.setattr(guard_module, "BRIDGE_FILTER", tmp_path / "bridge-nf-call-iptables")
    (tmp_path / "wb-01234567").mkdir()
    (tmp_path / "bridge-nf-call-iptables").write_text("1\n")
    return tmp_path


def test_a_host_with_everything_is_walled(host: Path) -> None:
    Guard(OPEN, NETWORK, hub_has_egress=False).ensure()


def test_a_missing_bridge_is_said(host: Path) -> None:
    (host / "wb-01234567").rmdir()
    with pytest.raises(Unknown, match="no bridge wb-01234567: run scripts/up"):
        Guard(OPEN, NETWORK, hub_has_egress=False).ensure()


@pytest.mark.parametrize("value", ["0\n", None])
def test_packets_that_pass_no_firewall_are_said(host: Path, value: str | None) -> None:
    (host / "bridge-nf-call-iptables").unlink()
    if value is not None:
        (host / "bridge-nf-call-iptables").write_text(value)
    with pytest.raises(Unknown, match="sysctl -w net"):
        Guard(OPEN, NETWORK, hub_has_egress=False).ensure()


def test_the_report_follows_the_walls(host: Path, tmp_path: Path) -> None:
    file, ended = tmp_path / "state.json", threading.Event()
    rounds = iter([None, Unknown("The chain is gone."), None])

    class Once(Guard):
        def ensure(self) -> None:
            problem = next(rounds)
            ended.set()
            if problem is not None:
                raise problem

    for expected in ("", "The chain is gone.", ""):
        ended.clear()
        keep(Once(OPEN, NETWORK, hub_has_egress=False), file, ended)
        if expected:
            with pytest.raises(Unknown, match=expected):
                require_guard(file)
        else:
            require_guard(file)


def test_a_replaced_resolv_conf_ends_the_guard(
    host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mounted file keeps what it was: only a new start of the container sees the host's present one."""
    monkeypatch.setattr(guard_module, "is_replaced", lambda: True)
    keep(Guard(OPEN, NETWORK, hub_has_egress=False), tmp_path / "state.json", threading.Event())
