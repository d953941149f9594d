"""``workbench audit``: compares Docker, the ledger and JupyterHub's database, and needs no running hub."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from spawner.audit.network import list_reachable, probe_network
from spawner.audit.probes import ProbeTargets, probe
from spawner.audit.rules import Finding, ObservedState, audit
from spawner.commands.noun import Noun, add_json_flag
from spawner.model import SettingsError, Unknown
from spawner.settings import Settings

CLEAN, FOUND, UNKNOWN = 0, 1, 2


def add_audit_noun(nouns: Any) -> Noun:  # noqa: ANN401 - argparse keeps the type to itself
    """Add the noun to the command line."""
    noun = Noun(nouns, "audit", "compare Docker, the ledger and the hub")
    command = noun.add_verb(
        "run", "list contradictions between Docker, the ledger and the hub", _audit
    )
    add_json_flag(command)
    command.add_argument(
        "--socket",
        type=Path,
        default=Path("/run/workbench/docker.sock"),
        help="the broker's socket (default: %(default)s)",
    )
    command.add_argument(
        "--hub-database",
        default="sqlite:////data/jupyterhub.sqlite",
        help="JupyterHub's database (default: %(default)s)",
    )
    command.add_argument(
        "--no-network", action="store_true", help="leave the walls of the users' network untried"
    )
    return noun


def _audit(flags: argparse.Namespace) -> int:
    try:
        settings = Settings.from_environ(os.environ)
        places = ProbeTargets(
            instance=settings.instance,
            first_uid=settings.first_uid,
            docker_socket=flags.socket,
            ledger_url=settings.ledger_url,
            hub_database_url=flags.hub_database,
        )
        world, findings = audit(partial(probe, places))
        if not flags.no_network:
            findings += list_reachable(probe_network(flags.socket, settings.instance))
    except (SettingsError, Unknown) as error:
        if flags.json:
            _print_json((), None, str(error))
        sys.stderr.write(f"The audit is not possible: {error}\n")
        return UNKNOWN
    if flags.json:
        _print_json(findings, world, None)
    else:
        _print_lines(findings, world)
    return FOUND if findings else CLEAN


def _print_json(
    findings: Sequence[Finding], world: ObservedState | None, error: str | None
) -> None:
    counts = None if world is None else _count(world)
    answer = {
        "findings": [asdict(finding) for finding in findings],
        "looked_at": counts,
        "error": error,
    }
    sys.stdout.write(json.dumps(answer) + "\n")


def _print_lines(findings: Sequence[Finding], world: ObservedState) -> None:
    for finding in findings:
        sys.stdout.write(f"{finding.rule.value} {finding.subject}: {finding.sentence}\n")
    if not findings:
        counted = ", ".join(f"{number} {what}" for what, number in _count(world).items())
        sys.stdout.write(f"Clean: {counted}.\n")


def _count(world: ObservedState) -> dict[str, int]:
    return {
        "containers": len(world.containers),
        "leases": len(world.leases),
        "homes": len(world.homes),
        "servers": len(world.servers),
    }
