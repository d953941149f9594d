"""The commands ``workbench line``, ``drain``, ``undrain``, ``end-lease`` and ``move``, over the hub's REST API.

Every order needs a reason: whom it concerns is told, and the audit trail keeps it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from spawner.commands.hub_client import DONE, HubClient, run_with_hub, segment
from spawner.commands.table import print_table


def add_order_commands(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type to itself
    """Add all to the ``commands`` of a parser."""
    command = commands.add_parser("line", help="list who holds GPUs and who waits, by lease")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=lambda flags: run_with_hub(_list, flags))
    _add(commands, "drain", "gpus", "let nobody be given a GPU; whoever has it keeps it")
    _add(commands, "undrain", "gpus", "let a drained GPU be given to people again")
    _add(commands, "end-lease", "leases", "end a lease, or take who waits out of line", "end")
    command = _add(commands, "move", "line", "let who waits go first, or last")
    command.add_argument("to", choices=("first", "last"))


def _add(
    commands: Any,  # noqa: ANN401
    name: str,
    folder: str,
    what: str,
    verb: str = "",
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=what)
    uuid = folder == "gpus"
    command.add_argument(
        "subject",
        metavar="UUID" if uuid else "LEASE",
        help="as `workbench gpus` prints it" if uuid else "as `workbench line` prints it",
    )
    command.add_argument("--reason", required=True, help="why; who it concerns is told")
    command.add_argument("--json", action="store_true", help="print one JSON object")

    def order(hub: HubClient, flags: argparse.Namespace) -> int:
        body = {"reason": flags.reason}
        if name == "move":
            body["to"] = flags.to
        hub.ask("POST", f"{folder}/{segment(flags.subject)}/{verb or name}", body)
        done = {"done": name, "subject": flags.subject, **body}
        text = json.dumps(done) if flags.json else f"{name} {flags.subject}: done"
        sys.stdout.write(f"{text}\n")
        return DONE

    command.set_defaults(run=lambda flags: run_with_hub(order, flags))
    return command


def _list(hub: HubClient, flags: argparse.Namespace) -> int:
    line = hub.ask("GET", "line")
    if flags.json:
        sys.stdout.write(json.dumps(line) + "\n")
        return DONE
    rows: list[tuple[str, ...]] = []
    for one in line["holders"]:
        state = "ending" if one["is_closing"] else "held"
        rows.append((one["lease"], one["user"], _count(one), state, _until(one["ends_at"])))
    for one in line["waiting"]:
        about = f"about {one['starts_at']}" if one["starts_at"] else "no estimate yet"
        place = f"place {one['position']}"
        rows.append((one["lease"], one["user"], _count(one), place, about))
    print_table(("LEASE", "USER", "GPUS", "STATE", "WHEN"), rows)
    return DONE


def _count(one: Mapping[str, Any]) -> str:
    return f"{one['gpus']} x {one['mig_profile']}" if one["mig_profile"] else str(one["gpus"])


def _until(ends_at: str | None) -> str:
    return f"until {ends_at}" if ends_at else ""
