"""Packed data set: the same files in the same order in every kind of process."""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Subset
from workbench_toolkit.data import PackedFiles, Sample
from workbench_toolkit.errors import ToolError
from workbench_toolkit.pack.packing import pack

FILES = 200


@pytest.fixture(params=["lmdb", "h5"])
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    folder.mkdir()
    for index in range(FILES):
        (folder / f"{index:03}").write_bytes(content(index))
    out = tmp_path / f"out.{request.param}"
    pack(folder, out, lambda doing, total: lambda files: None)
    yield out
    gc.collect()


def content(index: int) -> bytes:
    return bytes([index]) * (index * 40)


def expected() -> list[Sample]:
    return [Sample(f"{index:03}", content(index)) for index in range(FILES)]


def read(loader: DataLoader[Any]) -> list[Sample]:
    return [Sample(*pair) for batch in loader for pair in zip(batch.name, batch.data, strict=True)]


def length_and_process(name: str, data: bytes) -> tuple[int, int, int]:
    return int(name), len(data), os.getpid()


def test_items_are_names_and_bytes_in_order(packed: Path) -> None:
    files = PackedFiles(packed)
    assert len(files) == FILES
    assert [files[index] for index in range(FILES)] == expected()
    assert list(files) == expected()
    assert files[-1] == files[FILES - 1]
    assert files.name(7) == "007"
    for outside in (FILES, -FILES - 1):
        with pytest.raises(IndexError):
            files[outside]
    assert files[torch.tensor(3)] == files[3]


def test_a_batch_is_its_items(packed: Path) -> None:
    files = PackedFiles(packed)
    wanted = [3, 0, FILES - 1, 3, -1]
    assert files.__getitems__(wanted) == [files[index] for index in wanted]
    assert files.__getitems__([]) == []
    with pytest.raises(IndexError):
        files.__getitems__([0, FILES])


@pytest.mark.parametrize(
    ("method", "workers"), [(None, 0), ("fork", 3), ("spawn", 2), ("forkserver", 2)]
)
def test_every_way_to_start_workers(packed: Path, method: str | None, workers: int) -> None:
    files = PackedFiles(packed)
    assert files[0] == expected()[0]  # open before the fork
    loader = DataLoader(files, batch_size=16, num_workers=workers, multiprocessing_context=method)
    assert read(loader) == expected()
    assert read(loader) == expected(), "the second epoch differs"
    assert files[5] == expected()[5]


def test_workers_are_other_processes_that_decode(packed: Path) -> None:
    files = PackedFiles(packed, length_and_process)
    loader = DataLoader(files, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    found = [tuple(map(int, item)) for item in loader]
    assert [item[:2] for item in found] == [(index, index * 40) for index in range(FILES)]
    processes = {item[2] for item in found}
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_a_forked_child_reads_while_its_parent_does(packed: Path) -> None:
    files, again = PackedFiles(packed), PackedFiles(packed)
    assert files[1] == expected()[1]
    child = os.fork()
    if child == 0:
        is_right = list(files) == expected() and list(again) == expected()
        is_right = is_right and list(PackedFiles(packed)) == expected()
        os._exit(0 if is_right else 1)
    assert list(files) == expected()
    assert os.waitpid(child, 0)[1] == 0
    assert list(again) == expected()


def test_copies_by_pickle_read_side_by_side(packed: Path) -> None:
    files = PackedFiles(packed, length_and_process)
    before = pickle.dumps(files)
    assert files[3][:2] == (3, 120)
    copy = pickle.loads(pickle.dumps(files))  # noqa: S301
    assert copy[3] == files[3] == pickle.loads(before)[3]  # noqa: S301
    assert len(pickle.dumps(files)) == len(before) < 1000, "an open file's contents were pickled"


def test_a_relative_path_is_found_from_elsewhere(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(PackedFiles(packed.name))
    gc.collect()
    monkeypatch.chdir("/")
    assert list(pickle.loads(pickled)) == expected()  # noqa: S301


def test_threads_share_one(packed: Path) -> None:
    files = PackedFiles(packed)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(files.__getitem__, list(range(FILES)) * 5)) == expected() * 5


def test_a_seed_gives_one_order(packed: Path) -> None:
    orders = []
    for workers in (0, 2):
        loader = DataLoader(
            Subset(PackedFiles(packed), range(50)),
            batch_size=8,
            shuffle=True,
            num_workers=workers,
            generator=torch.Generator().manual_seed(1),
        )
        orders.append(read(loader))
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == expected()[:50]


def test_a_replaced_pack_is_read_anew(packed: Path, tmp_path: Path) -> None:
    before = PackedFiles(packed)
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "other").write_bytes(b"other")
    packed.unlink()
    pack(folder, packed, lambda doing, total: lambda files: None)
    after = PackedFiles(packed)
    assert list(after) == [("other", b"other")]
    assert before[3] == expected()[3]
    assert before.digest != after.digest


def test_no_descriptor_is_left_open(packed: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        assert PackedFiles(packed)[1] == expected()[1]
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_a_missing_pack_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"none\.h5 is not a file"):
        PackedFiles(tmp_path / "none.h5")
