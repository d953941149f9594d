"""Packing: every file once and in order, also after kills, crashes, full disks and changes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pack_helpers import ENDINGS, fill, refusal, silent
from workbench_toolkit.cli import main
from workbench_toolkit.errors import ToolError
from workbench_toolkit.pack import packing
from workbench_toolkit.pack.formats import open_reader
from workbench_toolkit.pack.packing import Advance, Packed, pack, verify

IN_SMALL_BATCHES = """
import sys
from pathlib import Path
from workbench_toolkit.pack import packing

def begin(doing, total):
    def advance(files):
        if doing == "packing":
            print(files, flush=True)
    return advance

packing.BATCH_FILES = 7
packing.pack(Path(sys.argv[1]), Path(sys.argv[2]), begin)
"""
PEAK_MEMORY = """
import resource, sys
from workbench_toolkit.cli import main
assert main(["pack", *sys.argv[1:]]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.fixture(params=ENDINGS)
def ending(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "data", 100)


def content_of(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = sorted((str(path.relative_to(folder)) for path in files), key=str.encode)
    return {name: (folder / name).read_bytes() for name in names}


def content_in(out: Path) -> dict[str, bytes]:
    reader = open_reader(out)
    listed = [(reader.describe(index)[0], reader.content(index)) for index in range(len(reader))]
    assert len(dict(listed)) == len(listed), "a file is there twice"
    return dict(listed)


def test_all_files_are_there_in_the_order_of_their_paths(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "data"
    for name in ("b", "a/z", "a.txt", "a-b", "a/b/c", "Ä/ö", "日本/語", "a b", "empty"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"" if name == "empty" else name.encode() * 1000)
    (folder / "no files here").mkdir()
    packed = pack(folder, tmp_path / f"out.{ending}", silent)
    found = content_in(tmp_path / f"out.{ending}")
    assert found == content_of(folder)
    assert list(found) == ["a b", "a-b", "a.txt", "a/b/c", "a/z", "b", "empty", "Ä/ö", "日本/語"]
    assert packed.files == 9
    assert packed.size_bytes == sum(map(len, found.values()))


def test_only_empty_files(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a").touch()
    (folder / "b").touch()
    pack(folder, tmp_path / f"out.{ending}", silent)
    assert content_in(tmp_path / f"out.{ending}") == {"a": b"", "b": b""}


def test_the_digest_is_that_of_names_and_contents_in_both_formats(
    folder: Path, tmp_path: Path
) -> None:
    whole = hashlib.sha256()
    for name, content in content_of(folder).items():
        whole.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    packs = [pack(folder, tmp_path / f"out.{ending}", silent) for ending in ENDINGS]
    assert {packed.digest for packed in packs} == {whole.hexdigest()}


def kill_after(records: int, folder: Path, out: Path) -> int:
    """Pack in small batches, kill -9 after ``records`` batches, and return the files at the start of the run."""
    command = [sys.executable, "-c", IN_SMALL_BATCHES, str(folder), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        began_with = int(process.stdout.readline())
        for _ in range(records):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "the run ended before the kill"
    return began_with


def test_a_killed_pack_resumes(folder: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"out.{ending}"
    began_with = [kill_after(records, folder, out) for records in (0, 1, 3, 5)]
    assert not out.exists()
    assert began_with[0] == 0

    assert began_with[2] >= 7, "the files of earlier runs were packed again"
    assert began_with[3] >= began_with[2] + 3 * 7
    packed = pack(folder, out, silent)
    assert content_in(out) == content_of(folder)
    assert verify(out, silent) == (
        Packed(100, packed.size_bytes, packed.digest, was_there=True),
        [],
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", out.name]


def test_a_crash_between_the_last_file_and_the_name(
    folder: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"out.{ending}"
    pack(folder, out, silent)
    out.rename(f"{out}.partial")
    pack(folder, out, silent)
    assert content_in(out) == content_of(folder)


def test_a_crash_in_the_middle_of_the_first_layout(
    folder: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"out.{ending}"
    pack(folder, out, silent)
    begun = out.read_bytes()[:300]
    out.unlink()
    Path(f"{out}.partial").write_bytes(begun)
    pack(folder, out, silent)
    assert content_in(out) == content_of(folder)


def test_packing_the_same_again_changes_nothing(folder: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"out.{ending}"
    first = pack(folder, out, silent)
    before = out.stat()
    assert pack(folder, out, silent) == Packed(
        first.files, first.size_bytes, first.digest, was_there=True
    )
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_existing_file_with_other_content_stays(
    folder: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"out.{ending}"
    pack(folder, out, silent)
    (folder / "new").write_text("new")
    assert "packed from other files" in refusal(folder, out)
    out.unlink()
    out.write_text("a note of mine")
    assert "not a finished pack" in refusal(folder, out)
    assert out.read_text() == "a note of mine"


def test_files_that_changed_since_the_interruption(
    folder: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"out.{ending}"
    kill_after(2, folder, out)
    os.utime(folder / "0" / "0.bin", ns=(1, 1))
    assert "changed since" in refusal(folder, out)
    Path(f"{out}.partial").unlink()
    pack(folder, out, silent)
    assert content_in(out) == content_of(folder)


@pytest.mark.parametrize("change", ["new", "gone", "longer"])
def test_files_that_change_while_they_are_packed(
    folder: Path, tmp_path: Path, ending: str, change: str
) -> None:
    def begin(doing: str, total: int | None) -> Advance:
        if doing == "packing":
            if change == "gone":
                (folder / "6" / "6.bin").unlink()
            else:
                name = "zz" if change == "new" else "6.bin"
                (folder / "6" / name).write_bytes(b"new")
        return lambda files: None

    with pytest.raises(ToolError, match="changed while"):
        pack(folder, tmp_path / f"out.{ending}", begin)
    assert not (tmp_path / f"out.{ending}").exists()


def test_no_space_is_seen_before(
    folder: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk())
    assert "GB free" in refusal(folder, tmp_path / f"out.{ending}")


class Disk:
    free = 1000


def test_no_space_in_the_middle_and_then_enough(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for index in range(20):
        (folder / f"{index:02}").write_bytes(bytes([index]) * 100_000)
    out = tmp_path / f"out.{ending}"
    command = f"ulimit -f 1100; exec {sys.executable} -c '{IN_SMALL_BATCHES}' {folder} {out}"
    limited = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "ToolError" in limited.stderr
    assert "has no space left: free some and run the same command again" in limited.stderr
    assert not out.exists()
    # HDF5 allocates the whole file first, LMDB grows
    assert limited.stdout.split() == (["0", "7"] if ending == "lmdb" else [])
    pack(folder, out, silent)
    assert content_in(out) == content_of(folder)


def test_a_write_that_fails_in_the_middle(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write, left = tmp_path / "out.h5", os.pwrite, iter(range(14))

    def fail_late(descriptor: int, content: bytes, offset: int) -> int:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, content[:100], offset)  # short writes before the failure

    monkeypatch.setattr(packing, "BATCH_FILES", 1)
    monkeypatch.setattr(os, "pwrite", fail_late)
    assert "no space left" in refusal(folder, out)
    monkeypatch.undo()
    seen: list[int] = []
    pack(
        folder,
        out,
        lambda doing, total: seen.append if doing == "packing" else silent(doing, total),
    )
    assert seen[0] > 0, "it started from the beginning"
    assert content_in(out) == content_of(folder)


def test_two_at_once(folder: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"out.{ending}"

    def begin(doing: str, total: int | None) -> Advance:
        if doing == "packing":
            assert "another `wb pack`" in refusal(folder, out)
        return lambda files: None

    pack(folder, out, begin)
    assert content_in(out) == content_of(folder)


def peak_bytes(folder: Path, out: Path) -> int:
    command = [sys.executable, "-c", PEAK_MEMORY, str(folder), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def test_memory_is_bounded(tmp_path: Path, ending: str) -> None:
    peaks = []
    for megabytes in (40, 400):
        folder = tmp_path / str(megabytes)
        folder.mkdir()
        for index in range(megabytes):
            with (folder / str(index)).open("wb") as file:
                file.truncate(1_000_000)
        peaks.append(peak_bytes(folder, tmp_path / f"{megabytes}.{ending}"))
    assert peaks[1] - peaks[0] < 100_000_000, f"400 MB took {peaks[1]} bytes, 40 MB {peaks[0]}"


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.h5"
    assert main(["pack", str(folder), str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 100 files, ")
    assert main(["pack", str(folder), str(out)]) == 0
    assert "already packed" in capsys.readouterr().out
    assert main(["pack", str(folder)]) == 2
    assert main(["pack", "--verify", str(tmp_path / "none.h5")]) == 2
    assert "is not a file" in capsys.readouterr().err


def test_ctrl_c_prints_how_to_resume(tmp_path: Path) -> None:
    folder = fill(tmp_path / "data", 100)
    slowly = (
        "import sys, time\n"
        "from workbench_toolkit.cli import main\n"
        "from workbench_toolkit.pack import packing\n"
        "load = packing._load\n"
        "def wait(entry): print('packing', flush=True); time.sleep(0.5); return load(entry)\n"
        "packing._load = wait\n"
        "sys.exit(main(['pack', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", slowly, str(folder), str(tmp_path / "out.h5")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert "continues from here" in said
    assert "Traceback" not in said
