"""Checkpointing: atomic files under kills, stop signals, and states that cannot be loaded."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from train_helpers import run
from workbench_toolkit.checkpointing import RESUME, STOP_SIGNALS, Checkpointer
from workbench_toolkit.errors import ToolError

SAVE_WITHOUT_END = """
import sys, torch
from workbench_toolkit.checkpointing import Checkpointer
checkpointer = Checkpointer(sys.argv[1])
number = 0
while True:
    number += 1
    checkpointer.save({"number": number, "numbers": torch.full((500_000,), number)})
    print(number, flush=True)
"""


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_stop_saves_the_state(tmp_path: Path) -> None:
    checkpointer = Checkpointer(tmp_path / "deep" / "checkpoint.pt")
    assert checkpointer.load() is None
    assert not checkpointer.should_stop
    os.kill(os.getpid(), signal.SIGTERM)
    assert checkpointer.should_stop
    assert checkpointer.should_stop
    with pytest.raises(SystemExit) as left:
        checkpointer.stop({"step": 3, "weights": torch.ones(2)})
    assert left.value.code == RESUME == os.EX_TEMPFAIL
    saved = Checkpointer(tmp_path / "deep" / "checkpoint.pt").load()
    assert saved is not None
    assert saved["step"] == 3
    assert torch.equal(saved["weights"], torch.ones(2))


def test_the_second_ctrl_c_is_an_interrupt(tmp_path: Path) -> None:
    checkpointer = Checkpointer(tmp_path / "checkpoint.pt")
    os.kill(os.getpid(), signal.SIGINT)
    assert checkpointer.should_stop
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    for number in (signal.SIGHUP, signal.SIGINT):  # as under nohup and after a shell's &
        signal.signal(number, signal.SIG_IGN)
    checkpointer = Checkpointer(tmp_path / "checkpoint.pt")
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGINT)
    assert not checkpointer.should_stop
    os.kill(os.getpid(), signal.SIGTERM)
    assert checkpointer.should_stop


def test_random_numbers_continue(tmp_path: Path) -> None:
    checkpointer = Checkpointer(tmp_path / "checkpoint.pt")
    checkpointer.save({})
    expected = (random.random(), float(np.random.rand()), torch.rand(3))  # noqa: S311
    torch.manual_seed(99)
    random.seed(99)
    assert checkpointer.load() == {}
    found = (random.random(), float(np.random.rand()), torch.rand(3))  # noqa: S311
    assert found[:2] == expected[:2]
    assert torch.equal(found[2], expected[2])


def test_a_killed_writer_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    moments = random.Random(5)  # noqa: S311
    killed_while_writing = 0
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", SAVE_WITHOUT_END, str(path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            confirmed = int([process.stdout.readline() for _ in range(3)][-1])
            # at a random point of the next write
            unfinished = path.with_name("checkpoint.pt.unfinished")
            size = moments.randrange(4_000_000)
            while not (unfinished.exists() and _size(unfinished) >= size):
                if process.poll() is not None:
                    break
            process.kill()
        killed_while_writing += unfinished.exists()
        saved = Checkpointer(path).load()
        assert saved is not None
        assert saved["number"] >= confirmed
        assert torch.equal(saved["numbers"], torch.full((500_000,), saved["number"]))
    assert killed_while_writing > 0, "no kill fell into a write"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_a_file_that_is_not_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for content in (b"", b"not one", os.urandom(1000)):
        path.write_bytes(content)
        with pytest.raises(ToolError, match="not a checkpoint that can be loaded"):
            Checkpointer(path).load()
    torch.save({"model": 1}, path)
    with pytest.raises(ToolError, match="not a checkpoint that can be loaded"):
        Checkpointer(path).load()


def test_a_checkpoint_with_code_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"state": Evil(), "random generators": []}, path)
    with pytest.raises(
        ToolError, match=r"not a checkpoint that can be loaded .*posix\.system"
    ) as refused:
        Checkpointer(path).load()
    assert not (tmp_path / "ran").exists()
    assert f'torch.load("{path}", map_location="cpu", weights_only=False)' in str(refused.value)
    assert "remove" not in str(refused.value)


NUMPYS = {
    "best loss": np.float64(0.5),
    "best epoch": np.int64(7),
    "is best": np.True_,
    "losses": [np.float32(0.25)],
    "confusion": np.arange(6).reshape(2, 3),
    "none yet": np.zeros((0, 3), "float16"),
    "names": np.array(["cat", "dog"]),
    "rows": np.array([(1, 2.5)], [("id", "i4"), ("weight", "f8")]),
    "objects": np.array(["cat", 3, None], object),
    "day": np.datetime64("2026-10-07"),
}


def test_numpy_values_are_loaded_unchanged(tmp_path: Path) -> None:
    checkpointer = Checkpointer(tmp_path / "checkpoint.pt")
    checkpointer.save(NUMPYS)
    saved = checkpointer.load()
    assert saved is not None
    assert saved.keys() == NUMPYS.keys()
    for name, expected in NUMPYS.items():
        assert type(saved[name]) is type(expected), name
        np.testing.assert_array_equal(saved[name], expected)
        assert getattr(saved[name], "dtype", None) == getattr(expected, "dtype", None), name


def test_types_allowed_by_the_script_stay_allowed(tmp_path: Path) -> None:
    with torch.serialization.safe_globals([deque, np.ndarray]):
        Checkpointer(tmp_path / "checkpoint.pt").save({})
        Checkpointer(tmp_path / "checkpoint.pt").load()
        allowed = torch.serialization.get_safe_globals()
    assert {deque, np.ndarray} <= set(allowed)
    assert np.dtype not in allowed


@pytest.mark.parametrize(
    "value", [Path("images"), deque([0.5]), datetime(2026, 10, 7, tzinfo=UTC)], ids=repr
)
def test_a_state_that_would_not_be_loaded_keeps_the_last_checkpoint_and_is_kept_itself(
    tmp_path: Path, value: object
) -> None:
    path, rejected = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.pt.rejected"
    Checkpointer(path).save({"step": 1})
    with pytest.raises(ToolError, match=type(value).__qualname__) as refused:
        Checkpointer(path).stop({"step": 2, "more": {"value": value}})
    assert f'torch.load("{rejected}", map_location="cpu", weights_only=False)' in str(refused.value)

    with pytest.raises(ToolError, match=r"\.rejected is the last saved state"):
        Checkpointer(path).load()  # otherwise the next run would continue from the older one

    kept = torch.load(rejected, weights_only=False)
    assert kept["more"] == {"value": value}
    rejected.rename(tmp_path / "elsewhere")
    assert Checkpointer(path).load() == {"step": 1}
    kept["more"] = str(value)
    torch.save(kept, path)
    assert Checkpointer(path).load() == {"step": 2, "more": str(value)}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint.pt", "elsewhere"]


def test_a_full_disk_ends_all_ranks_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import resource, sys, torch\n"
        "from workbench_toolkit.checkpointing import Checkpointer\n"
        "from workbench_toolkit.distributed import init_distributed\n"
        "context = init_distributed()\n"
        "checkpointer = Checkpointer(sys.argv[1])\n"
        "checkpointer.save({'numbers': torch.ones(10)})\n"
        "if context.rank == 0: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "checkpointer.save({'numbers': torch.ones(1_000_000)})\n"
    )
    code, output = run(tmp_path, "--nproc", 2, "--", script, tmp_path / "checkpoint.pt")
    assert code == 1, output
    assert "can't be written (File too large): the last checkpoint is still whole" in output
    saved = Checkpointer(tmp_path / "checkpoint.pt").load()
    assert saved is not None
    assert torch.equal(saved["numbers"], torch.ones(10))


def test_another_number_of_processes_is_reported(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from workbench_toolkit.checkpointing import Checkpointer\n"
        "from workbench_toolkit.distributed import init_distributed\n"
        "context = init_distributed()\n"
        "checkpointer = Checkpointer(sys.argv[1])\n"
        "print('found', checkpointer.load(), flush=True)\n"
        "checkpointer.save({'rank': context.rank})\n"
    )
    words = ["--", script, tmp_path / "checkpoint.pt"]
    assert run(tmp_path, "--nproc", 2, *words)[0] == 0
    code, output = run(tmp_path, "--nproc", 1, *words)
    assert code == 0, output
    assert "was saved by 2 processes, this run has 1" in output
    assert "found {'rank': 0}" in output
