"""The counter of scripts/lib/check_sentences.py: the rules it applies, and the allowance that may only fall."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
SPEC = importlib.util.spec_from_file_location(
    "check_sentences", ROOT / "scripts/lib/check_sentences.py"
)
assert SPEC is not None
assert SPEC.loader is not None
check_sentences = importlib.util.module_from_spec(SPEC)
sys.modules["check_sentences"] = check_sentences
SPEC.loader.exec_module(check_sentences)

LONG = " ".join(["Word"] * 31) + "."


def kinds(file: str, source: str) -> list[tuple[int, str]]:
    return [(one.line, one.kind) for one in check_sentences.check_file(file, source)]


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("a.py", '"""Return the lease."""\n', []),
        ("a.py", '"""Return it, and tell nobody."""\n', [(1, "word"), (1, "word")]),
        ("a.py", '"""A first line.\n\nWhat is held is kept."""\n', [(3, "word")]),
        ("a.py", '"""Tests answer: what is held?"""\n', []),
        ("a.py", "x = 1  # set anew\n", [(1, "word")]),
        ("a.py", "# one line\n# of these, two lines\n", [(1, "word")]),
        ("a.py", 'log.info("told %s", 1)\n', [(1, "word")]),
        ("a.py", 'x = "nobody reads a plain string"\n', []),
        ("a.py", f'"""{LONG}"""\n', [(1, "long")]),
        ("a.py", f'"""{LONG[5:]}"""\n', []),
        ("a.py", '"""Two sentences. ' + LONG[5:] + '"""\n', []),
        ("a.py", "class Offer:\n    pass\n", [(1, "name")]),
        ("a.py", "def find_lease() -> None: ...\n", [(1, "name")]),
        ("a.md", "The word `nobody` in code is code.\n", []),
        ("a.md", "```\nnobody\n```\n\nIt knocks.\n", [(5, "word")]),
        ("a.md", "| what | tells |\n|---|---|\n", [(1, "word")]),
        ("a.md", "## What it is\n", []),
        ("a.md", "- one beside\n- two anew\n", [(1, "word"), (2, "word")]),
        ("a.md", "GET /hub/api/workbench/line\n", [(1, "name")]),
        ("a.sh", 'echo "# nobody"\n# nobody\n', [(2, "word")]),
        ("a.ts", "// nobody\nconst a = 1;\n/* somebody\n   anew */\n", [(1, "word"), (3, "word"), (3, "word")]),
        ("a.html", "<p>{# nobody #}</p>", [(1, "word")]),
        ("openapi.json", '{"summary": "Give it to nobody."}', [(1, "word")]),
    ],
)  # fmt: skip
def test_a_file_has_these_findings(file: str, source: str, expected: list[tuple[int, str]]) -> None:
    assert kinds(file, source) == expected


@pytest.mark.parametrize(
    ("file", "area"),
    [
        ("README.md", "docs"),
        ("docs/quotas.md", "docs"),
        ("spawner/model.py", "spawner"),
        ("spawner/hub/views/form.py", "spawner/hub"),
        ("tests/unit/test_x.py", "tests/unit"),
        ("docker-compose.yml", "root"),
        ("scripts/lib/gpus.sh", "scripts"),
    ],
)
def test_a_file_belongs_to_an_area(file: str, area: str) -> None:
    assert check_sentences.Finding(file, 1, "word", "x").area == area


@pytest.mark.parametrize(
    ("count", "allowed", "code", "says"),
    [
        (1, 1, 0, ""),
        (2, 1, 1, "docs word: 2 found, 1 allowed"),
        (0, 1, 1, "docs word: 0 found, 1 allowed"),
    ],
)
def test_a_count_equals_its_allowance(
    count: int,
    allowed: int,
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "page.md").write_text("It knocks.\n\n" * count)
    allowance = tmp_path / "allowed.json"
    allowance.write_text(json.dumps({"docs": {"word": allowed}}))
    monkeypatch.setattr(check_sentences, "ALLOWANCE", allowance)
    assert check_sentences.main(["--root", str(tmp_path)]) == code
    out = capsys.readouterr().out
    assert says in out
    assert ("page.md:1: word: 'knocks'" in out) == (count > allowed)


def test_the_allowance_is_lowered_and_never_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    page, allowance = tmp_path / "page.md", tmp_path / "allowed.json"
    page.write_text("It knocks.\n")
    monkeypatch.setattr(check_sentences, "ALLOWANCE", allowance)
    allowance.write_text(json.dumps({"docs": {"word": 2}}))
    assert check_sentences.main(["--root", str(tmp_path), "--lower"]) == 0
    assert json.loads(allowance.read_text()) == {"docs": {"word": 1}}
    page.write_text("It knocks. It knocks.\n")
    assert check_sentences.main(["--root", str(tmp_path), "--lower"]) == 1
    assert json.loads(allowance.read_text()) == {"docs": {"word": 1}}
