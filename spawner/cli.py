"""The command ``workbench``: what an admin asks the workbench beside it.

The exit code is the answer: 0 all is well, 1 something is not, 2 nobody knows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from spawner.commands.audit import add_audit_command
from spawner.commands.gpus import add_gpu_commands
from spawner.commands.orders import add_order_commands
from spawner.commands.quotas import add_quota_commands
from spawner.commands.trail import add_trail_command
from spawner.commands.usage import add_usage_command


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser("workbench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_audit_command(commands)
    add_gpu_commands(commands)
    add_order_commands(commands)
    add_quota_commands(commands)
    add_trail_command(commands)
    add_usage_command(commands)
    flags = parser.parse_args(words)
    code: int = flags.run(flags)
    return code


if __name__ == "__main__":
    sys.exit(main())
