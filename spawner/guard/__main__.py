"""Runs the guard: ``python -m spawner.guard keep``; ``remove`` takes the rules away; ``check`` reads the state.

A stop of the guard leaves the rules where they are; ``scripts/down`` removes them.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from spawner.guard.guard import Guard, keep
from spawner.guard_state import FILE, require_guard
from spawner.model import SettingsError, Unknown
from spawner.policy.network import instance_network, parse_subnet
from spawner.settings import Settings


def main() -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser("python -m spawner.guard", description=__doc__)
    parser.add_argument("command", choices=("keep", "remove", "check"))
    parser.add_argument("--subnet", default="172.28.0.0/16", help="subnet of the users' network")
    parser.add_argument("--hub-egress", choices=("yes", "no"), default="no")
    parser.add_argument("--state", type=Path, default=FILE, help="file of the state")
    flags = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        if flags.command == "check":
            require_guard(flags.state)
            return 0
        settings = Settings.from_environ(os.environ)
        network = instance_network(settings.instance, parse_subnet(flags.subnet))
        hub_has_egress = flags.hub_egress == "yes"
        guard = Guard(settings.egress_rules, network, hub_has_egress=hub_has_egress)
        if flags.command == "remove":
            guard.remove()
            return 0
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        keep(guard, flags.state, ended)
    except (SettingsError, Unknown, OSError, ValueError) as error:
        sys.stderr.write(f"The network guard cannot run: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
