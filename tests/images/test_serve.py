"""The serve flavor serves an exported model: predictions over HTTP, health, metrics and a clean end."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from spawner.catalog import Release
from testing.eventually import eventually_sync
from tests.images.conftest import docker, run

NETWORK = "/home/researcher/examples/simplenet.py:SimpleNet"
IMAGES = [[0.5] * 784, [-1.0] * 784]
LOCAL = f"""
import json, torch
(scores,) = torch.jit.load("/workspace/model/model.pt")(torch.tensor({IMAGES}))
print(json.dumps(scores.tolist()))
"""
ASK = """
import json, sys, urllib.request
path, body = sys.argv[1], sys.argv[2].encode() or None
request = urllib.request.Request(f"http://127.0.0.1:8000{path}", body, {"Content-Type": "application/json"})
sys.stdout.write(urllib.request.urlopen(request, timeout=60).read().decode())
"""


@pytest.fixture
def exported(release: Release, tmp_path: Path) -> Path:
    """SimpleNet as the flavor ``train`` exports it."""
    tmp_path.chmod(0o777)
    run(
        f"{release.image}-train",
        *("wb", "export", NETWORK, "--input", "images=8x784", "--out", "model"),
        options=(f"--volume={tmp_path}:/workspace",),
    )
    return tmp_path


@pytest.fixture
def name() -> Iterator[str]:
    """A container's name; the container goes when the test ends."""
    name = f"workbench-test-{uuid4().hex}"
    yield name
    subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True)


def request(name: str, path: str, body: str = "") -> str:
    return docker("exec", name, "python", "-c", ASK, path, body)


def wait_until_healthy(name: str) -> None:
    command = ("docker", "exec", name, "python", "-c", ASK, "/health", "")

    def is_healthy() -> bool:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    try:
        eventually_sync(is_healthy, "the server is healthy", seconds=120)
    except AssertionError as late:
        late.add_note(docker("logs", name))
        raise


@pytest.mark.parametrize("user", ["1000:1000", "0:0", "54321:65533"])
def test_exported_model_is_served(release: Release, name: str, exported: Path, user: str) -> None:
    local = json.loads(
        run(
            f"{release.image}-train",
            *("python", "-c", LOCAL),
            options=(f"--volume={exported}:/workspace",),
        )
    )
    # root needs the capability to become another user
    rights = [] if user == "0:0" else ["--cap-drop=ALL"]
    docker(
        *("run", "--detach", f"--name={name}", f"--user={user}", *rights),
        *(
            f"--volume={exported}/model:/model:ro",
            f"{release.image}-serve",
            "wb",
            "serve",
            "/model",
        ),
    )
    wait_until_healthy(name)
    body = json.dumps({"instances": [{"images": image} for image in IMAGES]})
    served = [row["output"] for row in json.loads(request(name, "/predict", body))["predictions"]]
    assert served == [pytest.approx(scores, abs=1e-5) for scores in local]
    assert 'wb_serve_requests_total{code="200"} 1.0' in request(name, "/metrics")
    assert docker("exec", name, "sh", "-c", "grep ^Uid: /proc/1/status").split()[1] != "0"
    docker("stop", "--time=60", name)
    assert docker("inspect", "--format={{.State.ExitCode}}", name) == "0"
