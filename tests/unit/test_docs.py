"""Docs that cannot go stale: every setting and every command's option is written down as it is."""

import re
from dataclasses import fields

import pytest

from spawner.settings import Settings, variable_name
from testing.paths import ROOT

README = (ROOT / "README.md").read_text()
ROWS = {
    match[1]: (match[2].strip().strip("`"), match[3])
    for match in re.finditer(r"^\| `(WORKBENCH_\w+)` \|([^|]*)\| (.+) \|$", README, re.MULTILINE)
}
EXAMPLE = dict(
    re.findall(r"^#(WORKBENCH_\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
)
SETTINGS = {variable_name(setting): setting for setting in fields(Settings)}


def test_readme_and_example_list_exactly_the_settings() -> None:
    assert list(ROWS) == list(SETTINGS)
    assert list(EXAMPLE) == list(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_described_with_its_default(name: str) -> None:
    setting = SETTINGS[name]
    shown, description = ROWS[name]
    assert description == setting.metadata["description"]
    assert shown == EXAMPLE[name]
    assert setting.metadata["parse"](shown) == setting.default


@pytest.mark.parametrize("script", ["up", "down", "test"])
def test_every_option_of_a_command_is_in_the_readme(script: str) -> None:
    options = set(re.findall(r"^\s+(--[a-z-]+)\b", (ROOT / "scripts" / script).read_text(), re.M))
    missing = {option for option in options - {"--help"} if option not in README}
    assert not missing


def test_every_command_is_in_the_readme() -> None:
    commands = {path.name for path in (ROOT / "scripts").iterdir() if path.is_file()}
    assert {name for name in commands if f"scripts/{name}" not in README} == set()


def test_what_the_docs_point_at_exists() -> None:
    for page in (ROOT / "README.md", ROOT / "docs/ARCHITECTURE.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} points at {target}"


def test_every_room_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs/ARCHITECTURE.md").read_text()
    for room in re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE):
        if "/" in room and "<" not in room:
            assert (ROOT / room).exists(), room
