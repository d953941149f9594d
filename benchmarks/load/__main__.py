"""Loads a whole hub with a thousand people: ``python -m benchmarks.load [PART …] [--people 1000] [--json FILE]``.

Hub, proxy and broker are the product's own processes; Docker, what answers in its containers, and the agent are faked,
so what is measured is the workbench alone. Every start is a user's first: their account and home are made on the way.
Each line has its ratio to one person's start alone, or to the same without the load, in the same run. Needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.load import arrivals, restarts, slow_call
from benchmarks.load.figures import Row

Part = Callable[[Path, int], Awaitable[list[Row]]]

PARTS: dict[str, Part] = {
    "log-in": arrivals.log_in,
    "arrive-10": arrivals.arrive(gpus=0, inventory=8, per_second=10.0),
    "arrive-20": arrivals.arrive(gpus=0, inventory=8, per_second=20.0),
    "arrive-at-once": arrivals.arrive(gpus=0, inventory=8, per_second=None),
    # by REST: no real form offers a thousand GPUs of one host
    "gpu-each": arrivals.arrive(gpus=1, inventory=1000, per_second=10.0, fills_form=False),
    "queue-20": arrivals.arrive(gpus=1, inventory=8, per_second=20.0),
    "queue-at-once": arrivals.arrive(gpus=1, inventory=8, per_second=None),
    "running": restarts.running,
    "waiting": restarts.waiting,
    "watched-queue": restarts.watched_queue,
    "slow-call": slow_call.compare,
}


def run(part: Part, people: int) -> list[Row]:
    """Return what one part found, in a stack of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(part(Path(folder), people))  # type: ignore[arg-type]


def main() -> None:
    """Run the parts one after the other; print a table of each, and write all as JSON when asked."""
    parser = argparse.ArgumentParser("python -m benchmarks.load", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    unknown = set(options.parts) - PARTS.keys()
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    found: dict[str, list[Row]] = {}
    for name in options.parts or PARTS:
        print(f"{name} …", file=sys.stderr, flush=True)
        found[name] = run(PARTS[name], options.people)
        for row in found[name]:
            print(row, flush=True)
        if options.json:
            written = {part: [row.as_json() for row in rows] for part, rows in found.items()}
            options.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
