"""Commands and routes in the docs: every one exists, every one is documented, and those typed out can be typed."""

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from spawner import cli
from testing.docs import PAGES, Page, code_words, page
from testing.paths import ROOT

NOUN = r"(?:gpu|lease|queue|quota|home|usage|trail|audit|config)"
COMMAND_LINE = page("docs/command-line.md")
REST = page("docs/rest-api.md")
OPENAPI = json.loads((ROOT / "spawner/hub/handlers/openapi.json").read_text())
ROUTE_TABLES = (
    "Your servers",
    "Queue and leases",
    "GPUs",
    "Quotas",
    "People",
    "Homes and disk",
    "People",
    "Usage, trail, description",
)
GUIDES = [read for read in PAGES if read.name != "CHANGELOG.md"]
OTHER_PROGRAMS = {
    "--gpus",
    "--runtime",
    "--device",
    "--user",
    "--entrypoint",
    "--standalone",
    "--rdzv-id",
}
"""Options of Docker and torchrun, which the docs name as well."""
every_guide = pytest.mark.parametrize("read", GUIDES, ids=lambda one: one.name)


class Parsers:
    """The command line's own parsers, which run nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Parse from now on, and run nothing."""
        self.root = argparse.ArgumentParser()
        original = argparse.ArgumentParser.parse_args

        def parse_only(parser: argparse.ArgumentParser, *given: Any) -> argparse.Namespace:
            self.root = parser
            flags: argparse.Namespace = original(parser, *given)
            flags.run = lambda _: 0
            return flags

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        self.parse("gpu list")

    def parse(self, command: str) -> None:
        """Parse the words after ``workbench``; a wrong one fails."""
        try:
            cli.main(shlex.split(command))
        except SystemExit:
            pytest.fail(f"workbench {command} cannot be typed")

    def verbs(self) -> dict[str, set[str]]:
        """Return the options of every command, by ``NOUN VERB``."""
        return {
            f"{noun} {verb}": {
                option
                for action in parser._actions
                for option in action.option_strings
                if option.startswith("--") and option != "--help"
            }
            for noun, parsers in _subparsers(self.root)
            for verb, parser in _subparsers(parsers)
        }


def _subparsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


@pytest.fixture
def parsers(monkeypatch: pytest.MonkeyPatch) -> Parsers:
    return Parsers(monkeypatch)


def test_every_command_is_documented_and_exists(parsers: Parsers) -> None:
    rows = COMMAND_LINE.rows("`workbench`")
    documented = {" ".join(row[0].strip("`").split()[1:3]) for row in rows}
    assert documented == set(parsers.verbs())


def test_every_option_is_documented_at_its_commands(parsers: Parsers) -> None:
    table: dict[str, set[str]] = {}
    verbs = parsers.verbs()
    for options, commands, _ in COMMAND_LINE.rows("Options"):
        named = code_words(commands)
        for option in code_words(options):
            table[option] = set(verbs) - named if commands.startswith("all but") else named
    actual: dict[str, set[str]] = {}
    for verb, real in verbs.items():
        for option in real:
            actual.setdefault(option, set()).add(verb)
    assert table == actual


@every_guide
def test_a_typed_workbench_command_parses(read: Page, parsers: Parsers) -> None:
    for line in read.commands:
        for match in re.finditer(rf"(?:^|\s)workbench ({NOUN}\b[^<>|;&]*)", line):
            parsers.parse(match[1])
    for code in read.inline_code:
        typed = re.search(rf"\bworkbench ({NOUN}\b[^<>|;&]*)$", code)
        if typed is None:
            continue
        words = typed[1].replace("…", "").split()
        if len(words) == 2:
            assert " ".join(words) in parsers.verbs(), f"{read.name}: {code}"
        else:
            parsers.parse(" ".join(words).replace("SUBJECT", "user:ada"))


def read_script(name: str) -> str:
    path = ROOT / "scripts" / name
    assert path.is_file(), f"there is no scripts/{name}"
    return path.read_text()


@every_guide
def test_a_typed_script_has_these_options(read: Page) -> None:
    for line in [*read.commands, *read.inline_code]:
        for name, rest in re.findall(
            r"(?:^|[\s;&])scripts/([a-z][a-z-]*)(?=$|[\s;&])([^;&|<>]*)", line
        ):
            source = read_script(name)
            words = rest.split(" -- ")[0].split()
            for option in (word for word in words if word.startswith("--")):
                assert re.search(rf"{re.escape(option)}\b", source), f"{read.name}: {line}"
            if name == "test":
                layers = set(
                    re.findall(r"[a-z]+", " ".join(re.findall(r"layers=\((.*?)\)", source)))
                )
                wrong = {word for word in words if re.fullmatch(r"[a-z]+", word)}
                assert wrong - layers - {"nightly"} == set(), f"{read.name}: {line}"


@every_guide
def test_a_named_option_exists(read: Page, parsers: Parsers) -> None:
    sources = [*(ROOT / "scripts").rglob("*"), *(ROOT / "images/toolkit").rglob("*.py")]
    text = "".join(path.read_text() for path in sources if path.is_file() and path.suffix != ".pyc")
    known = set(re.findall(r"--[a-z][a-z-]+", text)).union(*parsers.verbs().values())
    named = {match[0] for code in read.inline_code if (match := re.match(r"--[a-z][a-z-]+", code))}
    assert named - known - OTHER_PROGRAMS == set()


def test_every_script_and_its_options_are_documented() -> None:
    text = COMMAND_LINE.text
    for path in (ROOT / "scripts").iterdir():
        if not path.is_file():
            continue
        assert f"`scripts/{path.name}" in text, path.name
        usage = re.search(
            r"cat <<'?TEXT'?\n(.*?)^TEXT$", path.read_text(), re.DOTALL | re.MULTILINE
        )
        options = set(re.findall(r"^\s+(--[a-z-]+)", usage[1], re.MULTILINE)) if usage else set()
        assert {option for option in options if option not in text} == set(), path.name


def _documented_routes() -> dict[tuple[str, str], list[str]]:
    return {
        (row[0], row[1].strip("`")): row for heading in ROUTE_TABLES for row in REST.rows(heading)
    }


def _real_routes() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path.removeprefix("/workbench/")): operation
        for path, operations in OPENAPI["paths"].items()
        for method, operation in operations.items()
        if method != "parameters"
    }


def test_every_route_is_documented_and_exists() -> None:
    assert set(_documented_routes()) == set(_real_routes())


@pytest.mark.parametrize("route", _real_routes(), ids=" ".join)
def test_a_route_is_documented_with_its_scope_and_parameters(route: tuple[str, str]) -> None:
    operation, row = _real_routes()[route], _documented_routes()[route]
    scopes = {
        scope for security in operation["security"] for one in security.values() for scope in one
    }
    assert scopes == code_words(row[2])
    for parameter in operation.get("parameters", []):
        assert parameter["name"] in " ".join(row), parameter["name"]
