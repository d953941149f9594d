"""``wb verify``: every difference from the manifest, and no other output."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from workbench_toolkit.cli import main
from workbench_toolkit.verify.compare import (
    compare_files,
    compare_packages,
    compare_texts,
    list_packages,
    read_locks,
    read_versions,
)
from workbench_toolkit.verify.files import (
    LIST,
    UNREADABLE,
    hash_files,
    read_list,
    write_list,
)


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
    about = tmp_path / "half_life-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: Half_Life\nVersion: 1.0\n")
    assert read_versions(list_packages(tmp_path)) == {"half-life": "1.0"}


def test_every_file_is_read_bytecode_too(tmp_path: Path) -> None:
    bytecode = tmp_path / "__pycache__" / "half_life.pyc"
    bytecode.parent.mkdir()
    for path in (tmp_path / "half_life.py", bytecode, tmp_path / "site.py"):
        path.write_text("x = 1\n")
    (tmp_path / "link").symlink_to("half_life.py")
    (tmp_path / "folder").symlink_to("__pycache__")
    seen: list[tuple[int, int]] = []
    progress = lambda done, total: seen.append((done, total))  # noqa: E731
    (tmp_path / LIST).write_text(write_list(hash_files(tmp_path, progress)))
    assert seen == [(0, 3), (3, 3)]
    listed = read_list((tmp_path / LIST).read_text())
    assert compare_files(listed, hash_files(tmp_path, progress)).state == "ok"
    bytecode.write_text("x = 2\n")
    (tmp_path / "half_life.py").unlink()
    (tmp_path / "sitecustomize.py").touch()
    assert compare_files(listed, hash_files(tmp_path, progress)).found == (
        "3 differ: __pycache__/half_life.pyc (changed), half_life.py (missing), sitecustomize.py (not listed)"
    )


def test_the_list_is_what_sha256sum_reads(tmp_path: Path) -> None:
    (tmp_path / "half life.py").write_text("x = 1\n")
    (tmp_path / LIST).write_text(write_list(hash_files(tmp_path, lambda *_: None)))
    subprocess.run(["sha256sum", "--check", "--strict", LIST], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("found", "state"), [({"a": "0" * 64}, "ok"), ({"a": UNREADABLE}, "fails"), ({}, "fails")]
)
def test_only_equal_files_agree(found: dict[str, str], state: str) -> None:
    assert compare_files({"a": "0" * 64}, found).state == state
    assert compare_files({}, found).state == "fails", "without a list nothing is compared"


def test_locks_say_release_and_flavor_and_are_hashed_in_the_order_of_their_names(
    tmp_path: Path,
) -> None:
    assert read_locks(tmp_path) == (None, None, None)
    folder = tmp_path / "v2.7"
    folder.mkdir()
    for name, flavor in (("torch", None), ("train", "train"), ("lab", "lab")):
        (folder / f"{name}.lock").write_text(name)
        assert read_locks(tmp_path)[:2] == ("v2.7", flavor)
    assert read_locks(tmp_path).sha256 == hashlib.sha256(b"labtorchtrain").hexdigest()


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
    of_the_home = {"imports", "search path", "files at the start", "earlier packages"}
    checks = [check for check in report["checks"] if check["name"] not in of_the_home]
    assert {check["state"] for check in checks} == {"fails"}
