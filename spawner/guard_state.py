"""Guard state: the file in which the guard says whether the walls of the users' network are in place.

The guard writes it every few seconds and the broker reads it; a state that is old, or of an earlier boot, is unknown.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

from spawner.model import Unknown

FILE = Path("/run/guard/state.json")
MAX_AGE_SECONDS = 10.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def write_guard_state(file: Path, problem: str, host_addresses: Iterable[str] = ()) -> None:
    """Replace the state by that of now; ``problem`` is one sentence, or "" when the walls are in place.

    ``host_addresses`` are those that the network probe tries.
    """
    state = {
        "boot_id": _boot_id(),
        "at": _seconds_since_boot(),
        "problem": problem,
        "host_addresses": sorted(host_addresses),
    }
    new = file.with_suffix(".new")
    new.write_text(json.dumps(state))
    new.replace(file)


def require_guard(file: Path = FILE) -> None:
    """Return only when the walls are known to be in place; raises Unknown with one sentence."""
    try:
        state = json.loads(file.read_text())
        age = _seconds_since_boot() - float(state["at"])
        is_of_this_boot, problem = state["boot_id"] == _boot_id(), str(state["problem"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise Unknown(f"The network guard's state cannot be read: {error}.") from error
    if not is_of_this_boot or not 0 <= age <= MAX_AGE_SECONDS:
        raise Unknown("The network guard has not reported for more than 10 seconds.")
    if problem:
        raise Unknown(problem)


def read_host_addresses(file: Path = FILE) -> tuple[str, ...]:
    """Return the host's addresses of the last report; none when it cannot be read."""
    try:
        return tuple(map(str, json.loads(file.read_text())["host_addresses"]))
    except (OSError, ValueError, LookupError, TypeError):
        return ()


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def _seconds_since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
