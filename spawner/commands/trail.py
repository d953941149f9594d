"""The command ``workbench trail``: the audit trail over the hub's REST API.

A table has the newest entries; as JSON lines or CSV it has all of them, and is printed as it comes.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from spawner.commands.hub_client import DONE, HubClient, run_with_hub
from spawner.commands.table import print_table
from spawner.policy.formatting import format_subject

_FILTERS = {
    "actor": "who did it, exactly",
    "action": "what was done, such as quota.changed",
    "subject": "to whom or what, exactly, such as 'user alice'",
    "text": "anywhere in an entry, in whichever case",
    "since": "from this time on, such as 2026-11-23T14:30 (UTC where it names no time zone)",
    "until": "before this time",
}
_HEADS = {"at": "AT", "actor": "WHO", "action": "WHAT", "subject": "TO", "reason": "WHY"}


def add_trail_command(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type to itself
    """Add it to the ``commands`` of a parser."""
    command = commands.add_parser("trail", help="search the audit trail")
    for name, meaning in _FILTERS.items():
        command.add_argument(f"--{name}", help=meaning)
    form = command.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_const", const="jsonl", dest="format", help="all of it, JSON lines"
    )
    form.add_argument("--csv", action="store_const", const="csv", dest="format", help="all of it")
    command.set_defaults(run=lambda flags: run_with_hub(_print, flags))


def _print(hub: HubClient, flags: argparse.Namespace) -> int:
    query = {name: getattr(flags, name) for name in _FILTERS if getattr(flags, name)}
    if flags.format is not None:
        for line in hub.lines("trail", {**query, "format": flags.format}):
            sys.stdout.write(line)
        return DONE
    answer = hub.ask("GET", "trail", query=query)
    entries = [
        {**entry, "subject": format_subject(entry["subject"], entry["after"])}
        for entry in answer["entries"]
    ]
    print_table([*_HEADS.values()], [[str(one[name] or "-") for name in _HEADS] for one in entries])
    if answer["next"] is not None:
        sys.stdout.write(
            "There is more: search for less, or print all of it with --json or --csv.\n"
        )
    return DONE
