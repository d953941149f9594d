"""``workbench queue`` and ``workbench lease``: list requests and leases, move the one, end the other."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from spawner.commands.admin_action import add_reason_flag, run_action
from spawner.commands.hub_client import DONE, HubClient, escape_segment, run_with_hub
from spawner.commands.noun import Noun, add_json_flag
from spawner.commands.table import print_table

_HEADS = ("LEASE", "USER", "GPUS", "STATE", "WHEN")


def add_queue_noun(nouns: Any) -> Noun:  # noqa: ANN401 - argparse keeps the type to itself
    """Add the noun to the command line."""
    noun = Noun(nouns, "queue", "list the queue and move requests in it")
    add_json_flag(
        noun.add_verb(
            "list",
            "list the leases that hold GPUs and the requests that wait",
            lambda flags: run_with_hub(_list_queue, flags),
        )
    )
    move = noun.add_verb(
        "move",
        "move a waiting request to the front or the end of the queue",
        lambda flags: run_with_hub(_move, flags),
    )
    move.add_argument("lease", metavar="LEASE", help="as `workbench queue list` prints it")
    move.add_argument("to", choices=("first", "last"))
    add_reason_flag(move)
    add_json_flag(move)
    return noun


def add_lease_noun(nouns: Any) -> Noun:  # noqa: ANN401 - argparse keeps the type to itself
    """Add the noun to the command line."""
    noun = Noun(nouns, "lease", "list and end leases")
    add_json_flag(
        noun.add_verb(
            "list",
            "list the leases that hold GPUs",
            lambda flags: run_with_hub(_list_leases, flags),
        )
    )
    end = noun.add_verb(
        "end",
        "end a lease, or take its waiting request out of the queue",
        lambda flags: run_with_hub(_end, flags),
    )
    end.add_argument("lease", metavar="LEASE", help="as `workbench lease list` prints it")
    add_reason_flag(end)
    add_json_flag(end)
    return noun


def _list_queue(hub: HubClient, flags: argparse.Namespace) -> int:
    queue = hub.request("GET", "queue")
    if flags.json:
        sys.stdout.write(json.dumps(queue) + "\n")
    else:
        rows = [*map(_lease_cells, queue["holders"]), *map(_request_cells, queue["waiting"])]
        print_table(_HEADS, rows)
    return DONE


def _list_leases(hub: HubClient, flags: argparse.Namespace) -> int:
    leases = hub.request("GET", "queue")["holders"]
    if flags.json:
        sys.stdout.write(json.dumps({"leases": leases}) + "\n")
    else:
        print_table(_HEADS, map(_lease_cells, leases))
    return DONE


def _move(hub: HubClient, flags: argparse.Namespace) -> int:
    path = f"queue/{escape_segment(flags.lease)}"
    return run_action(hub, flags, "queue move", flags.lease, "PATCH", path, to=flags.to)


def _end(hub: HubClient, flags: argparse.Namespace) -> int:
    path = f"leases/{escape_segment(flags.lease)}/end"
    return run_action(hub, flags, "lease end", flags.lease, "POST", path)


def _lease_cells(lease: Mapping[str, Any]) -> tuple[str, ...]:
    state = "ending" if lease["is_closing"] else "held"
    until = f"until {lease['ends_at']}" if lease["ends_at"] else ""
    return (lease["lease"], lease["user"], _format_gpus(lease), state, until)


def _request_cells(request: Mapping[str, Any]) -> tuple[str, ...]:
    start = f"about {request['starts_at']}" if request["starts_at"] else "no estimate yet"
    position = f"position {request['position']}"
    return (request["lease"], request["user"], _format_gpus(request), position, start)


def _format_gpus(item: Mapping[str, Any]) -> str:
    return f"{item['gpus']} x {item['mig_profile']}" if item["mig_profile"] else str(item["gpus"])
