"""``workbench trail``: searches the audit trail, or follows it.

The table has the newest entries. JSON lines and CSV have all of them and are printed while they arrive.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from spawner.commands.hub_client import DONE, HubClient, run_with_hub
from spawner.commands.noun import Noun
from spawner.commands.table import print_table
from spawner.model import Unknown
from spawner.policy.formatting import format_subject

FOLLOW_SECONDS = 2.0

_FILTERS = {
    "actor": "the exact actor",
    "action": "the action, such as quota.changed",
    "subject": "the exact subject, such as 'user alice'",
    "text": "text anywhere in an entry; case does not matter",
    "since": "from this time on, such as 2026-11-23T14:30 (UTC without a time zone)",
    "until": "before this time",
}
_HEADS = {"at": "AT", "actor": "WHO", "action": "WHAT", "subject": "TO", "reason": "WHY"}


def add_trail_noun(nouns: Any) -> Noun:  # noqa: ANN401 - argparse keeps the type to itself
    """Add the noun to the command line."""
    noun = Noun(nouns, "trail", "read the audit trail")
    command = noun.add_verb(
        "show", "search the audit trail", lambda flags: run_with_hub(_print, flags)
    )
    for name, meaning in _FILTERS.items():
        command.add_argument(f"--{name}", help=meaning)
    form = command.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        action="store_const",
        const="jsonl",
        dest="format",
        help="all entries as JSON lines",
    )
    form.add_argument("--csv", action="store_const", const="csv", dest="format", help="all entries")
    follow = noun.add_verb(
        "follow",
        "print new entries as JSON lines while they are written, until interrupted",
        lambda flags: run_with_hub(_follow, flags),
    )
    follow.add_argument(
        "--after",
        type=int,
        metavar="ID",
        help="begin after this entry, 0 for the whole trail; the default is after the newest",
    )
    return noun


def _follow(hub: HubClient, flags: argparse.Namespace) -> int:
    """Print entries until interrupted; ask a silent hub again, so that no entry is left out."""
    after = flags.after
    is_known = True
    while True:
        try:
            if after is None:
                newest = hub.request("GET", "trail")["entries"]
                after = newest[0]["id"] if newest else 0
            answer = hub.request("GET", "trail", query={"after": after})
        except Unknown as error:
            if is_known:
                sys.stderr.write(f"{error} The trail is read again when it does.\n")
            is_known = False
        else:
            is_known = True
            for entry in answer["entries"]:
                sys.stdout.write(json.dumps(entry, ensure_ascii=False) + "\n")
            sys.stdout.flush()
            after = answer["next"]
            if answer["entries"]:
                continue  # there may be more
        time.sleep(FOLLOW_SECONDS)


def _print(hub: HubClient, flags: argparse.Namespace) -> int:
    query = {name: getattr(flags, name) for name in _FILTERS if getattr(flags, name)}
    if flags.format is not None:
        for line in hub.stream_lines("trail", {**query, "format": flags.format}):
            sys.stdout.write(line)
        return DONE
    answer = hub.request("GET", "trail", query=query)
    entries = [
        {**entry, "subject": format_subject(entry["subject"], entry["after"])}
        for entry in answer["entries"]
    ]
    print_table([*_HEADS.values()], [[str(one[name] or "-") for name in _HEADS] for one in entries])
    if answer["next"] is not None:
        sys.stdout.write(
            "There are more entries: narrow the search, or print all with --json or --csv.\n"
        )
    return DONE
