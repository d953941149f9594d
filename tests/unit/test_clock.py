"""The lease clock: no change of the wall clock moves it, no reboot sets it back."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spawner.clock import Clock, read_boot_id, read_boottime
from spawner.ledger import Ledger

DAY = 86400.0


class Machine:
    """A machine whose clocks are set by hand."""

    def __init__(self) -> None:
        self.boot_id, self.uptime, self.wall = "first", 100.0, 1_000_000.0

    def sleep(self, seconds: float) -> None:
        self.uptime += seconds
        self.wall += seconds

    def reboot(self) -> None:
        self.boot_id, self.uptime = self.boot_id + "'", 0.0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}", first_uid=20000)
    yield opened
    opened.close()


def start(machine: Machine, ledger: Ledger) -> Clock:
    clock = Clock(
        ledger,
        boot_id=lambda: machine.boot_id,
        boottime=lambda: machine.uptime,
        wall=lambda: machine.wall,
    )
    clock.start()
    return clock


def test_it_begins_as_the_wall_clock_and_goes_on_as_fast(ledger: Ledger) -> None:
    machine = Machine()
    clock = start(machine, ledger)
    assert clock() == 1_000_000.0
    machine.sleep(5)
    assert clock() == 1_000_005.0


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_jump_of_the_wall_clock_moves_nothing(ledger: Ledger, jump: float) -> None:
    machine = Machine()
    clock = start(machine, ledger)
    machine.wall += jump
    assert clock() == 1_000_000.0
    assert start(machine, ledger)() == 1_000_000.0, "nor does it for the next hub"
    assert clock.to_wall(1_000_060.0) == 1_000_060.0 + jump, "people see their own clock"


def test_it_goes_on_while_no_hub_runs(ledger: Ledger) -> None:
    machine = Machine()
    start(machine, ledger)
    machine.sleep(DAY)
    assert start(machine, ledger)() == 1_000_000.0 + DAY


def test_after_a_reboot_it_is_the_wall_clock_again(ledger: Ledger) -> None:
    machine = Machine()
    start(machine, ledger)
    machine.sleep(DAY)
    machine.reboot()
    assert start(machine, ledger)() == 1_000_000.0 + DAY


def test_a_reboot_never_sets_it_back(ledger: Ledger) -> None:
    machine = Machine()
    clock = start(machine, ledger)
    machine.sleep(500)
    clock.record_heartbeat()
    machine.reboot()
    machine.wall -= DAY
    again = start(machine, ledger)
    assert again() == 1_000_500.0
    machine.sleep(1)
    assert again() == 1_000_501.0


def test_the_real_sources(ledger: Ledger) -> None:
    assert len(read_boot_id()) == 36
    assert 0 < read_boottime() <= read_boottime()
    clock = Clock(ledger)
    clock.start()
    assert abs(clock() - time.time()) < 60
