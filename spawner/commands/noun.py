"""Noun of the command line: collects its verbs; a bare noun means its first verb.

Every command reads ``workbench NOUN VERB``, so that a list of nouns is a list of the things that can be managed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Run = Callable[[argparse.Namespace], int]

_HELP = ("-h", "--help")


class Noun:
    """One noun and its verbs, added to the subparsers ``nouns`` of the command line."""

    def __init__(self, nouns: Any, name: str, summary: str) -> None:  # noqa: ANN401 - argparse keeps the type to itself
        """Add the noun without verbs."""
        self.name = name
        self.default_verb: str | None = None
        parser = nouns.add_parser(name, help=summary, description=summary)
        self._verbs = parser.add_subparsers(required=True, metavar="VERB")

    def add_verb(self, verb: str, summary: str, run: Run) -> argparse.ArgumentParser:
        """Return the parser of a new verb; the first verb added is the default one."""
        if self.default_verb is None:
            self.default_verb = verb
            summary += " (default)"
        parser: argparse.ArgumentParser = self._verbs.add_parser(
            verb, help=summary, description=summary
        )
        parser.set_defaults(run=run)
        return parser


def insert_default_verb(words: Sequence[str], nouns: Mapping[str, Noun]) -> list[str]:
    """Return ``words`` with the noun's default verb where the noun has none: alone, or followed by a flag."""
    noun = nouns.get(words[0]) if words else None
    if noun is None or noun.default_verb is None:
        return [*words]
    rest = words[1:]
    if rest and (rest[0] in _HELP or not rest[0].startswith("-")):
        return [*words]
    return [words[0], noun.default_verb, *rest]


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
