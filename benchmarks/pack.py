"""Measures random reads from packs against the same reads from small files, cold: ``python -m benchmarks.pack FOLDER``.

Everything is made in FOLDER, on the disk that is to be measured, and removed again. Before each measurement
the kernel's caches are dropped (``/proc/sys/vm/drop_caches``, so as root), names and inodes included; what a
disk's own host may cache stays out of reach. Needs the toolkit's packages: torch, lmdb, h5py.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "images" / "toolkit"))

from workbench_toolkit.data import PackedFiles
from workbench_toolkit.pack.packing import pack

FILES = 100_000
READS = 5_000
PER_FOLDER = 1_000
SIZES = (2_000, 20_000)
"""The smallest and the largest file, in bytes."""

BATCH = 64
ROUNDS = 3
CACHES = Path("/proc/sys/vm/drop_caches")
ReadBatch = Callable[[list[int]], list[bytes]]


def make_files(folder: Path, count: int, rng: random.Random) -> list[Path]:
    """Write ``count`` files of random content and return their paths in the pack's order."""
    paths = []
    for index in range(count):
        path = folder / f"{index // PER_FOLDER:04}" / f"{index:07}.bin"
        if index % PER_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(rng.randbytes(rng.randint(*SIZES)))
        paths.append(path)
    return paths


def drop_caches() -> None:
    """Forget every file's content, name and inode."""
    os.sync()
    CACHES.write_text("3\n")


def seconds_to_read(read: ReadBatch, wanted: list[int], batch: int) -> float:
    """Return how long the reads take with cold caches, ``batch`` at a time."""
    drop_caches()
    began = time.perf_counter()
    for begin in range(0, len(wanted), batch):
        read(wanted[begin : begin + batch])
    return time.perf_counter() - began


def from_files(paths: list[Path]) -> ReadBatch:
    """Read a batch as a data set of files is read."""
    return lambda indices: [paths[index].read_bytes() for index in indices]


def from_pack(path: Path) -> ReadBatch:
    """Read a batch from the pack, opening it at the first, so that opening counts."""
    files: list[PackedFiles] = []

    def read(indices: list[int]) -> list[bytes]:
        if not files:
            files.append(PackedFiles(path))
        return [sample.data for sample in files[0].__getitems__(indices)]

    return read


def measure(folder: Path, count: int, reads: int) -> None:
    """Make files and packs, compare them once whole, and print a line per round."""
    rng = random.Random(1)  # noqa: S311
    paths = make_files(folder / "files", count, rng)
    packs = {}
    for ending in ("lmdb", "h5"):
        packs[ending] = folder / f"pack.{ending}"
        drop_caches()
        began = time.perf_counter()
        packed = pack(folder / "files", packs[ending], lambda doing, total: lambda files: None)
        seconds = time.perf_counter() - began
        size = packs[ending].stat().st_size
        print(
            f"packed {count} files into {ending} in {seconds:.0f} s: {size / packed.size_bytes:.2f} of their bytes"
        )
    print(f"\n{reads} random reads, microseconds each, and how many times quicker than small files")
    print("at once  small files          lmdb            h5")
    for batch in (1, BATCH) * ROUNDS:
        wanted = rng.sample(range(count), reads)
        small = seconds_to_read(from_files(paths), wanted, batch)
        columns = [f"{1e6 * small / reads:11.0f}"]
        for path in packs.values():
            took = seconds_to_read(from_pack(path), wanted, batch)
            columns.append(f"{1e6 * took / reads:4.0f} ({small / took:4.1f} x)")
            assert from_pack(path)(wanted[:100]) == from_files(paths)(wanted[:100])
        print(f"{batch:7}  {'  '.join(columns)}", flush=True)


def main() -> None:
    """Measure in a folder of its own below the given one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--reads", type=int, default=READS)
    arguments = parser.parse_args()
    if not os.access(CACHES, os.W_OK):
        sys.exit("This has to drop the kernel's caches: run it as root, in no container.")
    folder = arguments.folder / "pack-benchmark"
    folder.mkdir(parents=True)
    try:
        measure(folder, arguments.files, arguments.reads)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
