"""``wb doctor`` finds a GPU that computes fit for this image."""

from __future__ import annotations

import json
import subprocess
import sys


def test_the_doctor_states_that_every_gpu_runs_this_release(gpus: int) -> None:
    command = (sys.executable, "-m", "workbench_toolkit.cli", "doctor", "--json")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    checks = {check["name"]: check for check in report["checks"]}
    assert report["simulated"] is False
    assert (checks["computing"]["state"], checks["device nodes"]["state"]) == ("ok", "ok")
    assert len(report["gpus"]) <= gpus  # a divided GPU is several to CUDA
    for gpu in report["gpus"]:
        (verdict,) = gpu["verdicts"].values()
        assert verdict["fit"] in ("works", "limited")
        assert gpu["cuda_cores"] is not None
    assert done.returncode == report["exit_code"] == 0
