"""Damaged packs: one sentence per error, and the damaged files from ``wb pack --verify``."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import h5py
import lmdb
import pytest
from pack_helpers import ENDINGS, fill, silent
from workbench_toolkit.cli import main
from workbench_toolkit.data import PackedFiles
from workbench_toolkit.errors import ToolError
from workbench_toolkit.pack.formats import get_format, open_reader
from workbench_toolkit.pack.h5_file import DATASETS
from workbench_toolkit.pack.packing import pack, verify
from workbench_toolkit.pack.source import Plan

NAMES = sorted(f"{index % 7}/{index}.bin" for index in range(100))


@pytest.fixture(params=ENDINGS)
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return packed(tmp_path, request.param)


def packed(folder: Path, ending: str) -> Path:
    out = folder / f"out.{ending}"
    pack(fill(folder / "data", len(NAMES)), out, silent)
    return out


def replace(out: Path, old: bytes, new: bytes) -> None:
    raw = out.read_bytes()
    assert raw.count(old) == 1
    out.write_bytes(raw.replace(old, new))


def lose_half(out: Path) -> None:
    half = out.stat().st_size // 2
    with out.open("rb+") as file:
        file.seek(half)
        file.write(bytes(half))


def test_verify_names_the_damaged_file(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "--verify", str(out)]) == 0
    needle = hashlib.sha256(b"50").digest() * 50
    replace(out, needle, needle[:-1] + b"?")
    capsys.readouterr()
    assert main(["pack", "--verify", str(out)]) == 1
    assert "1 of 100 files are damaged (1/50.bin)" in capsys.readouterr().out


def test_verify_sees_a_damaged_list(out: Path) -> None:
    replace(out, b"1/50.bin", b"1/5O.bin")
    with pytest.raises(ToolError, match="damaged"):
        verify(out, silent)


def test_a_name_that_is_damaged_beyond_reading(out: Path) -> None:
    index = NAMES.index("1/50.bin")
    replace(out, b"1/50.bin", b"1/50.b\xe9n")
    assert verify(out, silent)[1] == [f"file {index + 1}"]
    with pytest.raises(ToolError, match="is damaged"):
        open_reader(out).describe(index)


def test_a_half_that_is_lost_in_place(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lose_half(out)
    assert main(["pack", "--verify", str(out)]) == 1
    assert "of 100 files are damaged" in capsys.readouterr().out


@pytest.mark.parametrize("share", [0.0005, 0.004, 0.1, 0.5, 0.9, 0.99])
def test_a_pack_that_was_cut_off_is_none(
    out: Path, share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    os.truncate(out, int(out.stat().st_size * share))
    with pytest.raises(ToolError, match="not a finished pack"):
        open_reader(out)
    assert main(["pack", "--verify", str(out)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_truncated_unfinished_pack_starts_from_the_beginning(out: Path) -> None:
    partial = out.rename(f"{out}.partial")
    os.truncate(partial, partial.stat().st_size // 2)
    assert get_format(out).writer.read_fingerprint(partial) is None
    pack(out.with_name("data"), out, silent)
    assert verify(out, silent)[1] == []


def test_an_entry_that_lmdb_lost(tmp_path: Path) -> None:
    out = packed(tmp_path, "lmdb")
    with lmdb.open(str(out), subdir=False, lock=False, max_dbs=3) as env:
        files = env.open_db(b"files")
        with env.begin(write=True) as transaction:
            transaction.delete((50).to_bytes(8), db=files)
    assert verify(out, silent)[1] == [NAMES[50]]
    with pytest.raises(ToolError, match="is damaged"):
        list(PackedFiles(out))


def test_a_batch_that_lmdb_lost(tmp_path: Path) -> None:
    out = packed(tmp_path, "lmdb")
    lose_half(out)
    with pytest.raises(ToolError, match="is damaged"):
        PackedFiles(out).__getitems__(range(len(NAMES)))


@pytest.mark.parametrize("end", [0, 1 << 40, 1 << 63])
def test_an_end_in_hdf5_that_can_not_be_one(tmp_path: Path, end: int) -> None:
    out = packed(tmp_path, "h5")
    with h5py.File(out, "r+") as file:
        file["file_end"][50] = end
        file["name_end"][70] = 1 << 63
    assert verify(out, silent)[1] == [*NAMES[50:52], "file 71", "file 72"]


def test_what_is_no_pack(out: Path) -> None:
    out.unlink()
    with pytest.raises(ToolError, match="is not a file"):
        open_reader(out)
    for raw in (b"", os.urandom(100_000)):
        out.write_bytes(raw)
        with pytest.raises(ToolError, match="not a finished pack"):
            open_reader(out)


def test_an_lmdb_of_somebody_else(tmp_path: Path) -> None:
    out = tmp_path / "out.lmdb"
    lmdb.open(str(out), subdir=False, lock=False).close()
    with pytest.raises(ToolError, match="not a finished pack"):
        open_reader(out)


@pytest.mark.parametrize("groups", [set(), DATASETS], ids=["empty", "like ours"])
def test_an_hdf5_of_somebody_else(tmp_path: Path, groups: set[str]) -> None:
    out = tmp_path / "out.h5"
    with h5py.File(out, "w") as file:
        for name in groups:
            file.create_group(name)
    with pytest.raises(ToolError, match="not a finished pack"):
        open_reader(out)


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_unfinished_pack_is_none(tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"out.{ending}"
    out.touch()
    get_format(out).writer(out, Plan(2, 10, 2, "f"), is_new=True).close()
    with pytest.raises(ToolError, match="not a finished pack"):
        open_reader(out)
