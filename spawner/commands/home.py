"""``workbench home``: lists the homes of all users, mends one, and removes those of deleted users."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from spawner.commands.admin_action import add_reason_flag, run_action
from spawner.commands.hub_client import DONE, REFUSED, HubClient, escape_segment, run_with_hub
from spawner.commands.noun import Noun, add_json_flag
from spawner.commands.table import print_table
from spawner.policy.formatting import format_bytes


def add_home_noun(nouns: Any) -> Noun:  # noqa: ANN401 - argparse keeps the type to itself
    """Add the noun to the command line."""
    noun = Noun(nouns, "home", "list homes, mend one, and remove those of deleted users")
    add_json_flag(
        noun.add_verb(
            "list",
            "list every home with its size and last use, those of deleted users first",
            lambda flags: run_with_hub(_list, flags),
        )
    )
    mend = noun.add_verb(
        "mend",
        "give all files of a home to its user at the next start, as after a restore by root",
        lambda flags: run_with_hub(_mend, flags),
    )
    mend.add_argument("home", metavar="HOME", help="the name of its user, or of the home")
    add_reason_flag(mend)
    add_json_flag(mend)
    remove = noun.add_verb(
        "remove",
        "remove the home of a deleted user with all its files",
        lambda flags: run_with_hub(_remove, flags),
    )
    remove.add_argument("home", metavar="HOME", help="as `workbench home list` prints it")
    remove.add_argument("--yes", action="store_true", help="remove without the question")
    add_reason_flag(remove)
    add_json_flag(remove)
    return noun


def _list(hub: HubClient, flags: argparse.Namespace) -> int:
    answer = hub.request("GET", "homes")
    if flags.json:
        sys.stdout.write(json.dumps(answer) + "\n")
        return DONE
    heads = ("HOME", "USER", "SIZE", "LAST USE")
    print_table(heads, [_cells(home) for home in answer["homes"]])
    measured_at = answer["measured_at"] or "not measured yet"
    sys.stdout.write(f"Sizes: {measured_at}\n")
    return DONE


def _cells(home: Mapping[str, Any]) -> tuple[str, ...]:
    size = home["size_bytes"]
    return (
        home["home"],
        home["user"] or f"(deleted: {home['first_name']})",
        "unknown" if size is None else format_bytes(size),
        "now" if home["is_in_use"] else home["last_used_at"] or "-",
    )


def _mend(hub: HubClient, flags: argparse.Namespace) -> int:
    path = f"homes/{escape_segment(flags.home)}/mend"
    return run_action(hub, flags, "home mend", flags.home, "POST", path)


def _remove(hub: HubClient, flags: argparse.Namespace) -> int:
    if not flags.yes:
        sys.stderr.write("This deletes all files of this home. Type its name to remove it: ")
        sys.stderr.flush()
        if sys.stdin.readline().strip() != flags.home:
            sys.stderr.write("Nothing was removed: the name differs.\n")
            return REFUSED
    path = f"homes/{escape_segment(flags.home)}/remove"
    return run_action(hub, flags, "home remove", flags.home, "POST", path)
