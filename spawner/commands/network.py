"""``workbench network``: tries from two containers what a user's server must not reach."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spawner.audit.network import list_reachable, probe_network
from spawner.commands.audit import CLEAN, FOUND, UNKNOWN
from spawner.commands.noun import Noun, add_json_flag
from spawner.model import SettingsError, Unknown
from spawner.settings import Settings


def add_network_noun(nouns: Any) -> Noun:  # noqa: ANN401 - argparse keeps the type to itself
    """Add the noun to the command line."""
    noun = Noun(nouns, "network", "try the walls of the users' network")
    command = noun.add_verb("probe", "list what a user's server can reach and must not", _probe)
    add_json_flag(command)
    command.add_argument(
        "--socket",
        type=Path,
        default=Path("/run/workbench/docker.sock"),
        help="the broker's socket (default: %(default)s)",
    )
    return noun


def _probe(flags: argparse.Namespace) -> int:
    try:
        instance = Settings.from_environ(os.environ).instance
        attempts = probe_network(flags.socket, instance)
    except (SettingsError, Unknown) as error:
        if flags.json:
            sys.stdout.write(json.dumps({"attempts": [], "error": str(error)}) + "\n")
        sys.stderr.write(f"The network could not be probed: {error}\n")
        return UNKNOWN
    findings = list_reachable(attempts)
    if flags.json:
        rows = [asdict(attempt) for attempt in attempts]
        sys.stdout.write(json.dumps({"attempts": rows, "error": None}) + "\n")
    else:
        for finding in findings:
            sys.stdout.write(f"{finding.rule.value} {finding.subject}: {finding.sentence}\n")
        if not findings:
            sys.stdout.write(f"Clean: {len(attempts)} connections tried.\n")
    return FOUND if findings else CLEAN
