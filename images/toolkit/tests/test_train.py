"""``wb train``: signals, exit codes, and the same result after a stop and a resume."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from train_helpers import (
    ENVIRONMENT,
    STEPS,
    command,
    output_of,
    processes_of,
    run,
    steps,
    stop,
    training,
    wait_until,
)
from workbench_toolkit.checkpointing import RESUME
from workbench_toolkit.cli import main
from workbench_toolkit.train import agent
from workbench_toolkit.train.supervisor import training_processes

TOTAL = 60


def words(folder: Path, nproc: int = 2) -> list[str]:
    return ["--nproc", str(nproc), "--", str(STEPS), str(folder), str(TOTAL)]


def script(folder: Path, source: str) -> Path:
    path = folder / "script.py"
    path.write_text(source)
    return path


def agent_of(process: subprocess.Popen[str]) -> int:
    return processes_of(["workbench_toolkit.train.agent", str(process.pid)])[0]


def stop_in_the_middle(folder: Path, number: signal.Signals) -> None:
    """Stop a training and check that both ranks stop at one step, with a checkpoint and without processes."""
    with training(folder, *words(folder)) as process:
        wait_until(lambda: len(steps(folder, 0)) >= 10, "it is at step 10")
        assert stop(process, number) == RESUME, output_of(folder)
    assert "the same command continues from there" in output_of(folder)
    assert steps(folder, 0) == steps(folder, 1)
    assert 10 <= steps(folder, 0)[-1] < TOTAL
    assert (folder / "checkpoint.pt").exists()
    assert not processes_of([str(folder)])


def final_parameters(folder: Path) -> dict[str, torch.Tensor]:
    """Train to the end, check that both ranks did each step once, and return the parameters."""
    code, output = run(folder, *words(folder))
    assert code == 0, output
    assert steps(folder, 0) == steps(folder, 1) == list(range(1, TOTAL + 1))
    final: dict[str, torch.Tensor] = torch.load(folder / "final.pt", weights_only=True)
    return final


def test_a_stopped_training_resumes_to_the_same_result(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    expected = final_parameters(whole)
    stop_in_the_middle(stopped, signal.SIGTERM)
    final = final_parameters(stopped)
    assert all(torch.equal(final[name], expected[name]) for name in expected)


def test_ctrl_c_is_a_stop(tmp_path: Path) -> None:
    stop_in_the_middle(tmp_path, signal.SIGINT)


def test_a_signal_to_one_rank_stops_both_at_one_step(tmp_path: Path) -> None:
    with training(tmp_path, *words(tmp_path)) as process:
        wait_until(lambda: len(steps(tmp_path, 0)) >= 5, "it is at step 5")
        os.kill(training_processes(agent_of(process))[1], signal.SIGTERM)
        assert process.wait(60) == RESUME, output_of(tmp_path)
    assert steps(tmp_path, 0) == steps(tmp_path, 1)


def test_one_process_alone(tmp_path: Path) -> None:
    with training(tmp_path, *words(tmp_path, nproc=1)) as process:
        wait_until(lambda: len(steps(tmp_path, 0)) >= 5, "it is at step 5")
        assert stop(process) == RESUME, output_of(tmp_path)
    assert run(tmp_path, *words(tmp_path, nproc=1))[0] == 0
    assert steps(tmp_path, 0) == list(range(1, TOTAL + 1))


def test_a_closed_terminal_is_a_stop(tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        line = command(*words(tmp_path))
        os.execve(line[0], line, ENVIRONMENT)
    wait_until(lambda: len(steps(tmp_path, 0)) >= 5, "it is at step 5")
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == RESUME
    assert (tmp_path / "checkpoint.pt").exists()
    assert steps(tmp_path, 0) == steps(tmp_path, 1)


def test_nothing_is_left_when_wb_itself_is_killed(tmp_path: Path) -> None:
    with training(tmp_path, *words(tmp_path)) as process:
        wait_until(lambda: len(steps(tmp_path, 0)) >= 3, "it is at step 3")
        process.kill()
        wait_until(lambda: not processes_of([str(tmp_path)]), "all processes are gone")


def test_nothing_is_left_when_torchrun_is_killed(tmp_path: Path) -> None:
    with training(tmp_path, *words(tmp_path)) as process:
        wait_until(lambda: len(steps(tmp_path, 0)) >= 3, "it is at step 3")
        os.kill(agent_of(process), signal.SIGKILL)
        assert process.wait(60) == 128 + signal.SIGKILL
    assert not processes_of([str(tmp_path)])


@pytest.mark.parametrize(
    ("end", "code"),
    [("sys.exit(7)", 7), ("os.kill(os.getpid(), signal.SIGSEGV)", 128 + signal.SIGSEGV)],
)
def test_the_exit_code_is_that_of_the_rank_that_failed(tmp_path: Path, end: str, code: int) -> None:
    path = script(
        tmp_path,
        "import os, signal, sys, torch, torch.distributed as dist\n"
        "from workbench_toolkit.distributed import init_distributed\n"
        "context = init_distributed()\n"
        "print('hello from', context.rank, flush=True)\n"
        f"if context.rank == 1: {end}\n"
        "dist.all_reduce(torch.ones(1))\n",  # rank 0 fails here too, without its peer
    )
    ended, output = run(tmp_path, "--nproc", 2, "--", path)
    assert ended == code, output
    assert f"rank 1 ended with exit code {code}" in output
    assert "hello from 1" in output
    log = Path(output.split("its output is in ")[1].splitlines()[0])
    assert (log / "stdout.log").read_text() == "hello from 1\n"
    assert tmp_path / "runs" / "script" / "logs" in log.parents


def test_a_script_without_handlers_ends_by_the_signal(tmp_path: Path) -> None:
    path = script(tmp_path, "import time; print('up', flush=True); time.sleep(600)")
    with training(tmp_path, "--", path) as process:
        wait_until(lambda: "up" in output_of(tmp_path), "it is up")
        assert stop(process) == 128 + signal.SIGTERM


@pytest.mark.parametrize(("grace", "times"), [(1, 1), (0, 1), (600, 2)])
def test_a_script_that_will_not_stop_is_killed(tmp_path: Path, grace: int, times: int) -> None:
    path = script(
        tmp_path,
        "import signal, time\nfor number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, signal.SIG_IGN)\n"
        "print('up', flush=True)\nwhile True: time.sleep(600)",
    )
    with training(tmp_path, "--grace", grace, "--", path) as process:
        wait_until(lambda: "up" in output_of(tmp_path), "it is up")
        process.send_signal(signal.SIGINT)
        wait_until(lambda: "to stop" in output_of(tmp_path), "the first Ctrl-C is heard")
        if times == 2:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 128 + signal.SIGKILL
    assert "killing it" in output_of(tmp_path)
    assert not processes_of([str(path)])


SLOW_TO_END = """
import os, sys
from workbench_toolkit.train.supervisor import Supervisor
agent = "import signal, sys, time\\ndef end(*_): time.sleep(2); sys.exit(75)\\n"
agent += "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(600)"
sys.exit(Supervisor(0.1).run([sys.executable, "-c", agent], dict(os.environ)))
"""


def test_a_torchrun_whose_script_has_stopped_may_take_its_time() -> None:
    words = [sys.executable, "-c", SLOW_TO_END]
    with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        assert stop(process) == RESUME


def test_a_stop_before_the_script_has_begun(tmp_path: Path) -> None:
    with training(tmp_path, *words(tmp_path)) as process:
        wait_until(lambda: "output of each process" in output_of(tmp_path), "it has begun")
        assert stop(process) == 128 + signal.SIGTERM
    assert not processes_of([str(tmp_path)])


def test_other_signals_reach_the_script(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        "import signal, sys\nsignal.signal(signal.SIGUSR1, lambda *_: sys.exit(9))\n"
        "print('up', flush=True)\nwhile True: signal.pause()",
    )
    with training(tmp_path, "--", path) as process:
        wait_until(lambda: "up" in output_of(tmp_path), "it is up")
        assert stop(process, signal.SIGUSR1) == 9


def test_environment_of_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    path = script(
        tmp_path,
        "import os, sys\nprint(sys.argv[1:], os.environ['WORLD_SIZE'], int(os.environ['OMP_NUM_THREADS']) > 0)\n"
        "print(os.environ['TENSORBOARD_LOGDIR'], os.environ['TENSORBOARD_LOGGING_DIR'])",
    )
    code, output = run(tmp_path, "--run", "mine", "--", path, "--lr", "1", "--", "--nproc", "7")
    assert code == 0, output
    assert "['--lr', '1', '--', '--nproc', '7'] 1 True" in output
    board = tmp_path / "mine" / "tensorboard"
    assert f"{board} {board}" in output
    assert len(list((tmp_path / "mine" / "logs").glob("*/attempt_0/0/stdout.log"))) == 1


def test_a_module(tmp_path: Path) -> None:
    (tmp_path / "package.py").write_text("import sys; print('module', sys.argv[1:])")
    code, output = run(tmp_path, "--", "-m", "package", "a")
    assert code == 0, output
    assert "module ['a']" in output


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "The script is missing"),
        (["--nproc", "0", "--", "x.py"], "--nproc 0 is invalid"),
        (["--grace", "-1", "--", "x.py"], "--grace -1 is invalid"),
        (["--grace", "nan", "--", "x.py"], "--grace nan is invalid"),
        (["--grace", "1e300", "--", "x.py"], "--grace 1e+300 is invalid"),
        (["--", "none.py"], "none.py is not a file"),
        (["--run", "/proc/none", "--", str(STEPS)], "can't be created"),
    ],
)
def test_bad_words(given: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *given]) == 2
    assert sentence in capsys.readouterr().err


def test_more_processes_than_gpus(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(agent, "_exit_with_parent", lambda _: None)
    assert agent.main(0, "3", []) == 2
    assert "more than this container's 2 GPU(s)" in capsys.readouterr().err
