"""A bare noun means its default verb; every other word stays as given."""

import pytest

from spawner import cli
from spawner.commands.noun import Noun, insert_default_verb


class Subparsers:
    """Accepts parsers as argparse does, and adds nothing."""

    def add_parser(self, *_: object, **__: object) -> "Subparsers":
        return self

    def add_subparsers(self, **_: object) -> "Subparsers":
        return self

    def set_defaults(self, **_: object) -> None:
        pass


@pytest.fixture
def nouns() -> dict[str, Noun]:
    noun = Noun(Subparsers(), "gpu", "GPUs")
    noun.add_verb("list", "list them", lambda _: 0)
    noun.add_verb("drain", "drain one", lambda _: 0)
    return {"gpu": noun}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["gpu"], ["gpu", "list"]),
        (["gpu", "--json"], ["gpu", "list", "--json"]),
        (["gpu", "drain", "x"], ["gpu", "drain", "x"]),
        (["gpu", "unknown"], ["gpu", "unknown"]),
        (["gpu", "--help"], ["gpu", "--help"]),
        (["gpu", "-h"], ["gpu", "-h"]),
        (["lease"], ["lease"]),
        (["--help"], ["--help"]),
        ([], []),
    ],
)
def test_only_a_missing_verb_is_inserted(
    nouns: dict[str, Noun], given: list[str], expected: list[str]
) -> None:
    assert insert_default_verb(given, nouns) == expected


@pytest.mark.parametrize(
    ("noun", "verbs"),
    [
        ("gpu", ["list", "release", "drain", "undrain"]),
        ("lease", ["list", "end"]),
        ("queue", ["list", "move"]),
        ("quota", ["list", "show", "set", "clear", "export", "apply"]),
        ("usage", ["show"]),
        ("trail", ["show", "follow"]),
        ("home", ["list", "mend", "remove"]),
        ("network", ["probe"]),
        ("audit", ["run"]),
    ],
)
def test_every_noun_has_its_verbs(
    noun: str, verbs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([noun, "no-such-verb"])
    said = capsys.readouterr().err.replace("'", "")
    assert f"(choose from {', '.join(verbs)})" in said


@pytest.mark.parametrize("old", ["gpus", "drain", "line", "move", "quotas"])
def test_old_commands_are_gone(old: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([old])
    assert ended.value.code == 2
    assert "invalid choice" in capsys.readouterr().err
