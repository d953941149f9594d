"""Admin actions of the command line: send an action with its reason, and print that it is done.

Every action needs a reason: the audit trail keeps it, and each affected user reads it.
"""

from __future__ import annotations

import argparse
import json
import sys

from spawner.commands.hub_client import DONE, HubClient


def add_reason_flag(parser: argparse.ArgumentParser) -> None:
    """Add the required ``--reason``."""
    parser.add_argument("--reason", required=True, help="the reason; affected users read it")


def run_action(
    hub: HubClient,
    flags: argparse.Namespace,
    command: str,
    subject: str,
    method: str,
    path: str,
    **fields: str,
) -> int:
    """Send ``fields`` and the reason to ``path``, and print that ``command`` is done; raises HubRefused, Unknown."""
    body = {"reason": flags.reason, **fields}
    hub.request(method, path, body)
    done = {"done": command, "subject": subject, **body}
    text = json.dumps(done) if flags.json else f"{command} {subject}: done"
    sys.stdout.write(f"{text}\n")
    return DONE
