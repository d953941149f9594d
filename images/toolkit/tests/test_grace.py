"""A checkpoint is whole whatever kills its writer, and Grace hears what it promises to."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from training import run
from workbench_toolkit.errors import ToolError
from workbench_toolkit.grace import RESUME, STOP_SIGNALS, Grace

SAVE_WITHOUT_END = """
import sys, torch
from workbench_toolkit.grace import Grace
grace = Grace(sys.argv[1])
number = 0
while True:
    number += 1
    grace.save({"number": number, "numbers": torch.full((500_000,), number)})
    print(number, flush=True)
"""


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_two_lines(tmp_path: Path) -> None:
    grace = Grace(tmp_path / "deep" / "checkpoint.pt")
    assert grace.load() is None
    assert not grace.should_stop
    os.kill(os.getpid(), signal.SIGTERM)
    assert grace.should_stop
    assert grace.should_stop
    with pytest.raises(SystemExit) as left:
        grace.stop({"step": 3, "weights": torch.ones(2)})
    assert left.value.code == RESUME == os.EX_TEMPFAIL
    saved = Grace(tmp_path / "deep" / "checkpoint.pt").load()
    assert saved is not None
    assert saved["step"] == 3
    assert torch.equal(saved["weights"], torch.ones(2))


def test_the_second_ctrl_c_is_an_interrupt(tmp_path: Path) -> None:
    grace = Grace(tmp_path / "checkpoint.pt")
    os.kill(os.getpid(), signal.SIGINT)
    assert grace.should_stop
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_random_numbers_go_on(tmp_path: Path) -> None:
    grace = Grace(tmp_path / "checkpoint.pt")
    grace.save({})
    expected = (random.random(), float(np.random.rand()), torch.rand(3))  # noqa: S311
    torch.manual_seed(99)
    random.seed(99)
    assert grace.load() == {}
    found = (random.random(), float(np.random.rand()), torch.rand(3))  # noqa: S311
    assert found[:2] == expected[:2]
    assert torch.equal(found[2], expected[2])


def test_a_killed_writer_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    moments = random.Random(5)  # noqa: S311
    killed_while_writing = 0
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", SAVE_WITHOUT_END, str(path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            confirmed = int([process.stdout.readline() for _ in range(3)][-1])
            # anywhere in the next write
            unfinished = path.with_name("checkpoint.pt.unfinished")
            size = moments.randrange(4_000_000)
            while not (unfinished.exists() and _size(unfinished) >= size):
                if process.poll() is not None:
                    break
            process.kill()
        killed_while_writing += unfinished.exists()
        saved = Grace(path).load()
        assert saved is not None
        assert saved["number"] >= confirmed
        assert torch.equal(saved["numbers"], torch.full((500_000,), saved["number"]))
    assert killed_while_writing > 0, "no kill fell into a write"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for content in (b"", b"not one", os.urandom(1000)):
        path.write_bytes(content)
        with pytest.raises(ToolError, match="no checkpoint of Grace"):
            Grace(path).load()
    torch.save({"model": 1}, path)
    with pytest.raises(ToolError, match="no checkpoint of Grace"):
        Grace(path).load()


def test_a_checkpoint_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"state": Evil(), "generators": []}, tmp_path / "checkpoint.pt")
    with pytest.raises(ToolError, match="no checkpoint of Grace"):
        Grace(tmp_path / "checkpoint.pt").load()
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_ends_all_ranks_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import resource, sys, torch\n"
        "from workbench_toolkit.grace import Grace\n"
        "from workbench_toolkit.train.ranks import join\n"
        "place = join()\n"
        "grace = Grace(sys.argv[1])\n"
        "grace.save({'numbers': torch.ones(10)})\n"
        "if place.rank == 0: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "grace.save({'numbers': torch.ones(1_000_000)})\n"
    )
    code, said = run(tmp_path, "--nproc", 2, "--", script, tmp_path / "checkpoint.pt")
    assert code == 1, said
    assert "can't be written (File too large): the last checkpoint is still whole" in said
    saved = Grace(tmp_path / "checkpoint.pt").load()
    assert saved is not None
    assert torch.equal(saved["numbers"], torch.ones(10))


def test_another_number_of_processes_is_said(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from workbench_toolkit.grace import Grace\n"
        "from workbench_toolkit.train.ranks import join\n"
        "place = join()\n"
        "grace = Grace(sys.argv[1])\n"
        "print('found', grace.load(), flush=True)\n"
        "grace.save({'rank': place.rank})\n"
    )
    words = ["--", script, tmp_path / "checkpoint.pt"]
    assert run(tmp_path, "--nproc", 2, *words)[0] == 0
    code, said = run(tmp_path, "--nproc", 1, *words)
    assert code == 0, said
    assert "was saved by 2 processes, this run has 1" in said
    assert "found {'rank': 0}" in said
