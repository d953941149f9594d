"""Subcommand ``wb env``: lists, makes, exports and removes environments, and resets the user's packages."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from workbench_toolkit.env.environments import Home, list_requirements
from workbench_toolkit.errors import ToolError

PACKAGES = "packages"
"""The name in the list of the environment that kernels and terminals use by default."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments; no verb means ``list``."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    verbs.add_parser("list", help="list your environments")
    create = verbs.add_parser("create", help="make an environment of its own, with a kernel")
    create.add_argument("name", metavar="NAME")
    create.add_argument(
        "--release-free",
        action="store_true",
        help="without the image's packages, for another PyTorch (needs the package index)",
    )
    remove = verbs.add_parser("remove", help="remove an environment and its kernel")
    remove.add_argument("name", metavar="NAME")
    export = verbs.add_parser(
        "export", help="print your packages, as pip install --requirement reads them"
    )
    export.add_argument(
        "name", metavar="NAME", nargs="?", help="an environment (default: your packages)"
    )
    reset = verbs.add_parser(
        "reset", help="remove all packages that you installed over the image's"
    )
    for verb in (remove, reset):
        verb.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    home = Home.load()
    if arguments.verb == "create":
        return _create(home, arguments.name, release_free=arguments.release_free)
    if arguments.verb == "remove":
        environment = home.get(arguments.name)
        return _confirm(
            arguments,
            f"Remove {environment.folder} and its kernel",
            lambda: home.remove(environment),
        )
    if arguments.verb == "reset":
        question = f"Remove all packages in {home.packages}"
        return _confirm(arguments, question, home.reset)
    if arguments.verb == "export":
        folder = home.get(arguments.name).folder if arguments.name else home.packages
        sys.stdout.write("".join(f"{line}\n" for line in list_requirements(folder)))
        return 0
    return _list(home)


def _create(home: Home, name: str, *, release_free: bool) -> int:
    environment = home.create(name, release_free=release_free)
    sys.stdout.write(
        f"{environment.folder} is ready: choose the kernel Python ({name}), or run\n"
        f"    source {environment.folder}/bin/activate\n"
    )
    return 0


def _list(home: Home) -> int:
    rows = [(PACKAGES, "your packages over the image's", home.packages)]
    for environment in home.list_environments():
        kind = (
            "over the image's packages"
            if environment.sees_image
            else "without the image's packages"
        )
        rows.append((environment.name, kind, environment.folder))
    widths = [max(len(str(row[column])) for row in rows) for column in (0, 1)]
    for name, kind, folder in rows:
        sys.stdout.write(f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {_shorten(folder)}\n")
    return 0


def _shorten(folder: Path) -> str:
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def _confirm(arguments: argparse.Namespace, question: str, act: Callable[[], None]) -> int:
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise ToolError(f"{question} needs an answer: add --yes.")
        sys.stdout.write(f"{question}? [y/N] ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            sys.stdout.write("Nothing is removed.\n")
            return 1
    act()
    sys.stdout.write("Done. Restart kernels that run.\n")
    return 0
