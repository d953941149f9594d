"""One hub at a time: the second leaves at once, changes nothing, and may come when the first is gone."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from jupyterhub.app import JupyterHub

from spawner.hub.single_instance import acquire_hub_lock
from spawner.model import SettingsError
from testing.eventually import eventually_sync
from testing.paths import ROOT

HUB = """
import gc, sys, time
from pathlib import Path
from jupyterhub.app import JupyterHub
from spawner.hub.single_instance import acquire_hub_lock
from spawner.model import SettingsError
JupyterHub.instance()
try:
    acquire_hub_lock(Path(sys.argv[1]))
except SettingsError as error:
    sys.exit(str(error))
gc.collect()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _is_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JupyterHub, "initialized", classmethod(lambda _: True))


@contextmanager
def another_hub(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HUB, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def soon(attempt: Callable[[], int | None]) -> int:
    def acquired() -> int | None:
        try:
            return attempt()
        except SettingsError:
            return None

    return eventually_sync(acquired, "the lock is free", seconds=5)


def test_the_second_hub_leaves_with_one_sentence_and_changes_nothing(tmp_path: Path) -> None:
    with another_hub(tmp_path):
        before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        second = subprocess.run(
            [sys.executable, "-c", HUB, str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode != 0
        assert second.stdout == ""
        assert second.stderr.startswith(f"Another hub already uses {tmp_path}: stop that hub")
        assert second.stderr.count("\n") == 1
        assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_lock_dies_with_its_process(tmp_path: Path, end: signal.Signals) -> None:
    with another_hub(tmp_path) as first:
        with pytest.raises(SettingsError, match="Another hub"):
            acquire_hub_lock(tmp_path)
        first.send_signal(end)
        os.close(soon(lambda: acquire_hub_lock(tmp_path)))


def test_a_stopped_hub_still_holds(tmp_path: Path) -> None:
    with another_hub(tmp_path) as first:
        os.kill(first.pid, signal.SIGSTOP)
        with pytest.raises(SettingsError, match="Another hub"):
            acquire_hub_lock(tmp_path)


def test_what_a_hub_starts_does_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = acquire_hub_lock(tmp_path)
    assert lock is not None
    with subprocess.Popen(["sleep", "600"], close_fds=False) as child:
        os.close(lock)
        try:
            again = acquire_hub_lock(tmp_path)
        finally:
            child.kill()
    assert again is not None
    os.close(again)


def test_a_subcommand_is_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JupyterHub, "initialized", classmethod(lambda _: False))
    assert acquire_hub_lock(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot use its data folder .*No such file"):
        acquire_hub_lock(tmp_path / "none")
