"""The commands ``workbench gpus`` and ``workbench return-gpu``, over the hub's REST API."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from spawner.commands.hub_client import DONE, UNKNOWN, HubClient, run_with_hub, segment
from spawner.commands.table import print_table
from spawner.model import GpuHealth

WELL, ILL = 0, 1


def add_gpu_commands(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type to itself
    """Add both to the ``commands`` of a parser."""
    command = commands.add_parser("gpus", help="list every GPU, who holds it and what is wrong")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=lambda flags: run_with_hub(_list, flags))
    command = commands.add_parser(
        "return-gpu", help="let a GPU in quarantine be given to people again"
    )
    command.add_argument("uuid", metavar="UUID", help="as `workbench gpus` prints it")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=lambda flags: run_with_hub(_return, flags))


def _list(hub: HubClient, flags: argparse.Namespace) -> int:
    answer = hub.ask("GET", "gpus")
    gpus = answer["gpus"]
    if flags.json:
        sys.stdout.write(json.dumps(answer) + "\n")
    elif gpus:
        heads = ("GPU", "UUID", "NAME", "HEALTH", "HOLDER", "NOT GIVEN TO ANYBODY BECAUSE")
        print_table(heads, [_cells(gpu) for gpu in gpus])
    elif answer["error"] is None:
        sys.stdout.write("This workbench has no GPU.\n")
    if answer["error"] is not None:
        sys.stderr.write(f"Nobody knows how the GPUs are: {answer['error']}\n")
        return UNKNOWN
    return ILL if any(_is_ill(gpu) for gpu in gpus) else WELL


def _cells(gpu: Mapping[str, Any]) -> tuple[str, ...]:
    index, mig = gpu["index"], gpu["mig_profile"]
    name = gpu["name"] or "-"
    return (
        "-" if index is None else str(index),
        gpu["uuid"],
        f"{name}, {mig}" if mig else name,
        gpu["health"],
        gpu["holder"] or "-",
        "; ".join(_obstacles(gpu)),
    )


def _obstacles(gpu: Mapping[str, Any]) -> Iterator[str]:
    if quarantine := gpu["quarantine"]:
        yield f"in quarantine since {quarantine['since']}: it {quarantine['reason']}"
    if drain := gpu["drain"]:
        yield f"drained by {drain['by']}: {drain['reason']}"


def _is_ill(gpu: Mapping[str, Any]) -> bool:
    return gpu["quarantine"] is not None or gpu["health"] != GpuHealth.OK.value


def _return(hub: HubClient, flags: argparse.Namespace) -> int:
    hub.ask("POST", f"gpus/{segment(flags.uuid)}/return")
    done = {"done": "return-gpu", "subject": flags.uuid}
    text = json.dumps(done) if flags.json else f"{flags.uuid} can be given to people again."
    sys.stdout.write(f"{text}\n")
    return DONE
