"""``wb verify`` finds whatever is not as declared, and says nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from workbench_toolkit.cli import main
from workbench_toolkit.verify.compare import (
    compare_files,
    compare_packages,
    compare_texts,
    find_packages,
    hash_locks,
    read_versions,
)


def install(folder: Path, name: str = "Half_Life", text: bytes = b"x = 1\n") -> Path:
    """Write an installed package as an installer does and return its module."""
    module = folder / "half_life.py"
    module.write_bytes(text)
    digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()
    about = folder / "half_life-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "RECORD").write_text(
        f"half_life.py,sha256={digest},{len(text)}\nhalf_life-1.0.dist-info/RECORD,,\n"
    )
    return module


@pytest.mark.parametrize(
    ("declared", "found", "state"),
    [
        ("1", "1", "ok"),
        ("1", "2", "fails"),
        (None, "1", "fails"),
        ("1", None, "fails"),
        (None, None, "fails"),
    ],
)
def test_only_equal_texts_agree(declared: str | None, found: str | None, state: str) -> None:
    assert compare_texts("x", declared, found).state == state


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"a": "1", "b": "2"}, None),
        ({"a": "1", "b": "3"}, "b 2 (3)"),
        ({"a": "1"}, "b 2 (not declared)"),
        ({"a": "1", "b": "2", "c": "4"}, "c is missing (4)"),
        (None, "2 differ"),
        ([], "2 differ"),
    ],
)
def test_every_different_package_is_named(declared: object, words: str | None) -> None:
    check = compare_packages(declared, {"a": "1", "b": "2"})
    assert check.state == ("ok" if words is None else "fails")
    assert words is None or words in check.found


def test_many_differences_are_counted_and_some_are_named() -> None:
    found = compare_packages({}, {f"p{index:02}": "1" for index in range(25)}).found
    assert found.startswith("25 differ: p00 1 (not declared), ")
    assert found.endswith(" and 15 more")


def test_names_are_those_of_locks(tmp_path: Path) -> None:
    install(tmp_path)
    assert read_versions(find_packages(tmp_path)) == {"half-life": "1.0"}


def test_files_are_read(tmp_path: Path) -> None:
    module = install(tmp_path)
    seen: list[tuple[int, int]] = []
    progress = lambda done, total: seen.append((done, total))  # noqa: E731
    assert compare_files(find_packages(tmp_path), progress).state == "ok"
    assert seen == [(0, 1), (1, 1)]
    module.write_text("x = 2\n")
    assert "half_life.py (changed)" in compare_files(find_packages(tmp_path), progress).found
    module.unlink()
    assert "half_life.py (No such file" in compare_files(find_packages(tmp_path), progress).found


def test_locks_are_hashed_in_the_order_of_their_names(tmp_path: Path) -> None:
    assert hash_locks(tmp_path) is None
    (tmp_path / "b.lock").write_text("two")
    (tmp_path / "a.lock").write_text("one")
    assert hash_locks(tmp_path) == hashlib.sha256(b"onetwo").hexdigest()


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_useless_manifest_is_one_sentence(
    tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "manifest.json"
    if text is not None:
        path.write_text(text)
    assert main(["verify", "--manifest", str(path)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert error.count("\n") == 1


def test_manifest_that_declares_nothing_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "manifest.json"
    path.write_text("{}")
    assert main(["verify", "--json", "--manifest", str(path)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["agrees"] is False
    assert {check["state"] for check in report["checks"]} == {"fails"}
