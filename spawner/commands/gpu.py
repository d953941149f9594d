"""``workbench gpu``: lists GPUs, releases them from quarantine, drains them and ends the drain."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from spawner.commands.admin_action import add_reason_flag, run_action
from spawner.commands.hub_client import DONE, UNKNOWN, HubClient, escape_segment, run_with_hub
from spawner.commands.noun import Noun, add_json_flag
from spawner.commands.table import print_table
from spawner.model import GpuHealth

HEALTHY, UNHEALTHY = 0, 1


def add_gpu_noun(nouns: Any) -> Noun:  # noqa: ANN401 - argparse keeps the type to itself
    """Add the noun to the command line."""
    noun = Noun(nouns, "gpu", "list, release, drain and undrain GPUs")
    add_json_flag(
        noun.add_verb(
            "list",
            "list every GPU, its holder and its health",
            lambda flags: run_with_hub(_list, flags),
        )
    )
    release = noun.add_verb(
        "release", "release a GPU from quarantine", lambda flags: run_with_hub(_release, flags)
    )
    drain = noun.add_verb(
        "drain",
        "give a GPU to no new lease; a lease that holds it keeps it",
        lambda flags: run_with_hub(_drain, flags),
    )
    undrain = noun.add_verb(
        "undrain",
        "give a drained GPU to new leases again",
        lambda flags: run_with_hub(_undrain, flags),
    )
    for verb in (release, drain, undrain):
        verb.add_argument("uuid", metavar="UUID", help="as `workbench gpu list` prints it")
        add_json_flag(verb)
    add_reason_flag(drain)
    add_reason_flag(undrain)
    return noun


def _list(hub: HubClient, flags: argparse.Namespace) -> int:
    answer = hub.request("GET", "gpus")
    gpus = answer["devices"]
    if flags.json:
        sys.stdout.write(json.dumps(answer) + "\n")
    elif gpus:
        heads = ("GPU", "UUID", "NAME", "HEALTH", "HOLDER", "NOT AVAILABLE BECAUSE")
        print_table(heads, [_cells(gpu) for gpu in gpus])
    elif answer["error"] is None:
        sys.stdout.write("This workbench has no GPU.\n")
    if answer["error"] is not None:
        sys.stderr.write(f"The state of the GPUs is unknown: {answer['error']}\n")
        return UNKNOWN
    return UNHEALTHY if any(_is_unhealthy(gpu) for gpu in gpus) else HEALTHY


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


def _is_unhealthy(gpu: Mapping[str, Any]) -> bool:
    return gpu["quarantine"] is not None or gpu["health"] != GpuHealth.OK.value


def _release(hub: HubClient, flags: argparse.Namespace) -> int:
    hub.request("POST", f"gpus/{escape_segment(flags.uuid)}/release")
    done = {"done": "gpu release", "subject": flags.uuid}
    text = json.dumps(done) if flags.json else f"gpu release {flags.uuid}: done"
    sys.stdout.write(f"{text}\n")
    return DONE


def _drain(hub: HubClient, flags: argparse.Namespace) -> int:
    path = f"gpus/{escape_segment(flags.uuid)}/drain"
    return run_action(hub, flags, "gpu drain", flags.uuid, "POST", path)


def _undrain(hub: HubClient, flags: argparse.Namespace) -> int:
    path = f"gpus/{escape_segment(flags.uuid)}/undrain"
    return run_action(hub, flags, "gpu undrain", flags.uuid, "POST", path)
