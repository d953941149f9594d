"""Command line ``workbench NOUN VERB``: lets an admin read and manage the workbench.

Exit codes: 0 done and well, 1 refused or not well, 2 unknown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from spawner.commands.audit import add_audit_noun
from spawner.commands.config import add_config_noun
from spawner.commands.gpu import add_gpu_noun
from spawner.commands.home import add_home_noun
from spawner.commands.network import add_network_noun
from spawner.commands.noun import insert_default_verb
from spawner.commands.queue import add_lease_noun, add_queue_noun
from spawner.commands.quota import add_quota_noun
from spawner.commands.trail import add_trail_noun
from spawner.commands.usage import add_usage_noun
from spawner.commands.user import add_user_noun
from spawner.version import VERSION

INTERRUPTED = 130


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser("workbench", description=__doc__)
    parser.add_argument("--version", action="version", version=f"workbench {VERSION}")
    subparsers = parser.add_subparsers(required=True, metavar="NOUN")
    nouns = [
        add_noun(subparsers)
        for add_noun in (
            add_gpu_noun,
            add_lease_noun,
            add_queue_noun,
            add_quota_noun,
            add_home_noun,
            add_usage_noun,
            add_user_noun,
            add_trail_noun,
            add_audit_noun,
            add_network_noun,
            add_config_noun,
        )
    ]
    given = sys.argv[1:] if words is None else words
    flags = parser.parse_args(insert_default_verb(given, {noun.name: noun for noun in nouns}))
    try:
        code: int = flags.run(flags)
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


if __name__ == "__main__":
    sys.exit(main())
