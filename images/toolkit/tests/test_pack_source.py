"""Pack source: unsupported files and folders are refused with one sentence."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pack_helpers import fill, refusal
from workbench_toolkit.errors import ToolError
from workbench_toolkit.pack.source import list_entries


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "data", 10)


def test_a_link_a_socket_and_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    assert "has no files" in refusal(folder, tmp_path / "out.h5")
    (folder / "link").symlink_to("/etc/passwd")
    assert "link is a symbolic link" in refusal(folder, tmp_path / "out.h5")
    (folder / "link").unlink()
    monkeypatch.chdir(folder)  # the path of a socket has to be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        assert "neither a file nor a folder" in refusal(folder, tmp_path / "out.h5")
    assert "is not a folder" in refusal(folder / "missing", tmp_path / "out.h5")


def test_a_name_that_is_not_utf8(folder: Path, tmp_path: Path) -> None:
    with Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).open("wb"):
        pass
    assert "caf\\xe9" in refusal(folder, tmp_path / "out.lmdb")


def test_the_pack_may_not_lie_in_the_folder(folder: Path, tmp_path: Path) -> None:
    assert "inside" in refusal(folder, folder / "out.h5")
    (tmp_path / "alias").symlink_to(folder)
    assert "inside" in refusal(tmp_path / "alias", folder / "1" / "out.h5")


def test_other_endings(folder: Path, tmp_path: Path) -> None:
    assert ".lmdb or .h5" in refusal(folder, tmp_path / "out.zip")


def test_a_file_too_large(folder: Path, tmp_path: Path) -> None:
    with (folder / "film").open("wb") as file:
        file.truncate((1 << 30) + 1)
    assert "over 1 GiB" in refusal(folder, tmp_path / "out.h5")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every user can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Run as a user with file permissions, which root ignores."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("closed", ["secret", "folder"])
def test_unreadable_files(open_folder: Path, closed: str) -> None:
    data = open_folder / "data"
    (data / "folder").mkdir(parents=True)
    (data / "secret").write_text("secret")
    (data / closed).chmod(0)
    with as_nobody():
        sentence = refusal(data, open_folder / "out.h5")
    assert f"{closed} can't be" in sentence
    assert "Permission denied" in sentence
    (data / closed).chmod(0o777)


def test_a_folder_that_can_be_read_but_not_entered(open_folder: Path) -> None:
    data = fill(open_folder / "data", 1)
    (data / "0").chmod(0o444)
    with as_nobody():
        sentence = refusal(data, open_folder / "out.h5")
    assert "0.bin can't be listed (Permission denied)" in sentence
    (data / "0").chmod(0o777)


@pytest.mark.parametrize("gone", ["b", "c"])
def test_entries_that_vanish_during_the_listing(tmp_path: Path, gone: str) -> None:
    for name in ("a", "b/b", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    entries = list_entries(tmp_path)
    assert next(entries).name == "a"
    (tmp_path / gone).rename(tmp_path / "elsewhere")
    with pytest.raises(ToolError, match=f"/{gone} vanished while it was listed: "):
        list(entries)


def test_a_place_that_can_not_be_written(open_folder: Path) -> None:
    data, closed = fill(open_folder / "data", 3), open_folder / "closed"
    closed.mkdir(mode=0o555)
    with as_nobody():
        assert "can't be written (Permission denied)" in refusal(data, closed / "out.h5")
        assert "can't be written (No such file" in refusal(data, open_folder / "none" / "out.h5")
