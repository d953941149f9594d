"""``workbench usage``: prints GPU-hours held and used.

A value that was not measured is a dash, never 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from spawner.commands.hub_client import DONE, HubClient, run_with_hub
from spawner.commands.noun import Noun
from spawner.commands.table import print_table
from spawner.policy.usage import GroupBy

_HEADS = {
    "held_gpu_hours": "HELD",
    "used_gpu_hours": "USED",
    "unmeasured_gpu_hours": "UNMEASURED",
}


def add_usage_noun(nouns: Any) -> Noun:  # noqa: ANN401 - argparse keeps the type to itself
    """Add the noun to the command line."""
    noun = Noun(nouns, "usage", "read GPU-hours held and used")
    command = noun.add_verb(
        "show", "print GPU-hours held and used", lambda flags: run_with_hub(_print, flags)
    )
    command.add_argument("--from", dest="first", metavar="DAY", help="such as 2026-11-17 (UTC)")
    command.add_argument("--to", dest="last", metavar="DAY", help="the last day, included")
    command.add_argument("--by", choices=[by.value for by in GroupBy], default=GroupBy.USER.value)
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--csv", action="store_true", help="print CSV")
    return noun


def _print(hub: HubClient, flags: argparse.Namespace) -> int:
    asked = {"from": flags.first, "to": flags.last, "by": flags.by}
    query = {name: value for name, value in asked.items() if value is not None}
    if flags.csv:
        for line in hub.stream_lines("usage", {**query, "format": "csv"}):
            sys.stdout.write(line)
        return DONE
    answer = hub.request("GET", "usage", query=query)
    if flags.json:
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        rows = [*answer["rows"], {"label": "total", **answer["sum"]}]
        cells = [[row["label"], *(_format_value(row[name]) for name in _HEADS)] for row in rows]
        print_table([answer["by"].upper(), *_HEADS.values()], cells, is_number=True)
    return DONE


def _format_value(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
