"""A server that is stopped, as at the end of a lease, lets a training save its state."""

from __future__ import annotations

import subprocess
from pathlib import Path

from testing.eventually import eventually_sync
from testing.ports import free_port
from testing.stack import docker
from tests.workflow.conftest import CATALOG, Shell

TRAINING = """
import time
from pathlib import Path
from workbench_toolkit.checkpointing import Checkpointer
checkpointer = Checkpointer("checkpoint.pt")
step = 0
while True:
    step += 1
    time.sleep(0.1)
    Path("step").write_text(str(step))
    if checkpointer.should_stop:
        time.sleep(2)  # longer than JupyterLab takes to end
        checkpointer.stop({"step": step})
"""


def test_a_training_saves_before_its_server_is_gone(folder: Path) -> None:
    (folder / "training.py").write_text(TRAINING)
    image = CATALOG.releases[CATALOG.default].image
    shell = Shell(folder, 'lab="docker run --init --user $(id -u):$(id -g) -v $PWD:/workspace"')
    with shell.running(f"$lab -p 8888:8888 {image}", free_port()) as name:
        logs = ("docker", "logs", name)
        eventually_sync(
            lambda: "token=" in subprocess.run(logs, capture_output=True, text=True).stderr,
            seconds=90,
            what="JupyterLab runs",
        )
        train = ("wb", "train", "--", "training.py")
        docker("exec", "--detach", "--workdir=/workspace", name, *train)
        eventually_sync((folder / "step").exists, seconds=120, what="the training runs")
        docker("stop", "--time=60", name)
        assert (folder / "checkpoint.pt").is_file()
        assert docker("inspect", "--format={{.State.ExitCode}}", name) == "0"
