"""``workbench user``: make a link with which a user chooses a new password."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from spawner.commands.hub_client import DONE, HubClient, escape_segment, run_with_hub
from spawner.commands.noun import Noun, add_json_flag


def add_user_noun(nouns: Any) -> Noun:  # noqa: ANN401 - argparse keeps the type to itself
    """Add the noun to the command line."""
    noun = Noun(nouns, "user", "help users with their accounts")
    reset = noun.add_verb(
        "reset-password",
        "print a link with which the user chooses a new password, once and within a day",
        lambda flags: run_with_hub(_reset_password, flags),
    )
    reset.add_argument("name", metavar="NAME", help="the user's name")
    add_json_flag(reset)
    return noun


def _reset_password(hub: HubClient, flags: argparse.Namespace) -> int:
    link = hub.request("POST", f"people/{escape_segment(flags.name)}/password-link")
    if flags.json:
        sys.stdout.write(json.dumps(link) + "\n")
    else:
        place = "" if link["url"] else " (after the address of the workbench)"
        sys.stdout.write(f"{link['url'] or link['path']}{place}\n")
        sys.stdout.write(
            f"Send it to {flags.name} alone; it works once, until {link['expires_at']}.\n"
        )
    return DONE
