"""Every package that an image lists is used once, and its Jupyter server as JupyterLab uses it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from spawner.catalog import Release
from tests.images.conftest import docker

HERE = Path(__file__).parent
HARDENED = ("--read-only", "--tmpfs=/tmp:exec", "--cap-drop=ALL", "--init")
HOME = "--tmpfs=/home/researcher:uid=1000,gid=1000"
OFFERED = {"html", "markdown", "notebook", "python", "script", "slides"}


@pytest.fixture
def server(release: Release) -> Iterator[str]:
    """A container with a Jupyter server."""
    name = f"workbench-test-{uuid4().hex}"
    words = ("jupyter", "lab", "--ip=0.0.0.0", "--no-browser")
    given = ("--env=JUPYTER_TOKEN=secret", "--env=TZ=Asia/Shanghai", "--env=JUPYTERHUB_USER=ida")
    docker("run", "-d", "--name", name, *HARDENED, HOME, *given, release.image, *words)
    yield name
    docker("rm", "--force", name)


def run_in(name: str, program: str) -> object:
    """Return the JSON on the last line that a program prints in a container."""
    done = subprocess.run(
        ["docker", *name.split(), "-"],
        input=(HERE / program).read_text(encoding="utf-8"),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_every_listed_package_is_used(release: Release) -> None:
    options = " ".join((*HARDENED, HOME, "--network=none", "--env=HF_HUB_OFFLINE=1"))
    assert run_in(f"run --rm -i {options} {release.image} python", "use_packages.py") == {}


def test_a_server_exports_deletes_and_shows_what_jupyterlab_offers(server: str) -> None:
    python = "/opt/pytorch/bin/python -I"
    assert run_in(f"exec -i {server} {python}", "probe_lab.py") == {
        "exports": dict.fromkeys(OFFERED, 200),
        "delete": [201, 201, 204, 404],
        "output": 8_000_001,
        "board": "TensorBoard",
    }
    docker("exec", server, "server-health")
    assert docker("exec", server, "date", "+%Z") == "CST"
    # the server does not answer while it is stopped
    stop = "kill -STOP $(pgrep -f 'bin/[j]upyter-lab'); ! timeout 20 server-health 2>/dev/null"
    assert docker("exec", server, "sh", "-c", stop) == "The Jupyter server does not answer."
