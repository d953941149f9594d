"""An image works alone, without any hub: one line gives a server that asks for a token and never runs as root."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from spawner.catalog import Release
from testing.eventually import eventually_sync
from tests.images.conftest import docker, run

NOTEBOOK = ("jupyter", "notebook", "--ip=0.0.0.0", "--allow-root", "--no-browser")
RUN_OF_A_PROJECT = """
from torch.utils.tensorboard import SummaryWriter
with SummaryWriter("project/runs/first") as board:
    board.add_scalar("loss", 1, 1)
"""
CODE = "curl -so /dev/null -w '%{http_code}' "


@pytest.fixture
def name() -> Iterator[str]:
    """A container's name; the container goes when the test ends."""
    name = f"workbench-test-{uuid4().hex}"
    yield name
    subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that every user may write into."""
    tmp_path.chmod(0o777)
    (tmp_path / "work.ipynb").write_text("{}", encoding="utf-8")
    return tmp_path


def wait_for_url(name: str) -> str:
    """Return the address that a server prints; its log is shown when it prints none."""

    def address() -> str | None:
        done = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=True)
        log = done.stdout + done.stderr
        found = re.search(r"http://127\.0\.0\.1:8888/\S*token=[0-9a-f]{48}", log)
        return found[0] if found else None

    try:
        return eventually_sync(address, "the server prints its address")
    except AssertionError as late:
        late.add_note(docker("logs", name))
        raise


@pytest.mark.parametrize(
    "user", [(), ("--user=0",), ("--user=20001:20001",), ("--user=1000", "--cap-drop=ALL")]
)
def test_the_line_gives_a_tokenised_address(
    release: Release, name: str, folder: Path, user: tuple[str, ...]
) -> None:
    docker(
        "run",
        "-dt",
        "--name",
        name,
        *user,
        f"--volume={folder}:/workspace",
        release.image,
        *NOTEBOOK,
    )
    url = wait_for_url(name)
    place, _, token = url.partition("?token=")
    contents = f"{place.removesuffix('tree')}api/contents"
    assert docker("exec", name, "sh", "-c", f"{CODE} {contents}") == "403"
    assert "work.ipynb" in docker("exec", name, "curl", "-s", f"{contents}?token={token}")
    assert docker("exec", name, "sh", "-c", f"{CODE} '{url}'") == "200"
    assert docker("exec", name, "sh", "-c", "grep ^Uid: /proc/1/status").split()[1] != "0"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--volume={folder}:/workspace",),
            "error: /workspace is not writable for uid 1000: run 'chown 1000' on the folder",
        ),
        (("--user=0", "--cap-drop=ALL"), "error: this would run as root"),
        (("--read-only",), "error: /tmp is not writable for uid 1000 either"),
    ],
)
def test_what_cannot_start_is_one_sentence(
    release: Release, name: str, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    tmp_path.chmod(0o755)
    given = [option.format(folder=tmp_path) for option in options]
    command = ("docker", "run", "--rm", "--name", name, *given, release.image, *NOTEBOOK)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (sentence,) = (line for line in done.stderr.splitlines() if not line.startswith("entrypoint: "))
    assert sentence.startswith(said)


@pytest.mark.parametrize("user", [(), ("--user=5000",), ("--user=0",)])
def test_a_chosen_folder_is_where_the_command_runs(
    release: Release, folder: Path, user: tuple[str, ...]
) -> None:
    (folder / "project").mkdir()
    options = ("--rm", *user, f"--volume={folder}:/workspace")
    assert docker("run", *options, release.image, "pwd") == "/workspace"
    for chosen in ("/workspace/project", "/opt"):
        assert docker("run", f"--workdir={chosen}", *options, release.image, "pwd") == chosen


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((), "researcher"),
        (("--user=77",), "user77"),
        (("--user=5000", "--tmpfs=/var/lib/extrausers:uid=5000"), "researcher"),
    ],
)
def test_a_read_only_container_has_names_too(
    release: Release, options: tuple[str, ...], name: str
) -> None:
    words = ("run", "--rm", "--read-only", "--tmpfs=/tmp", *options, release.image, "id", "-un")
    assert docker(*words) == name


def test_a_temporary_home_is_the_same_after_a_restart(release: Release, name: str) -> None:
    first = docker("run", "--name", name, "--user=5000", release.image, "ls", "/tmp/home")
    assert "examples" in first
    assert docker("start", "--attach", name) == first


@pytest.mark.parametrize("kind", ["lab", "notebook", "server"])
def test_server_without_a_token_does_not_start(release: Release, kind: str) -> None:
    words = f"jupyter {kind} --no-browser --IdentityProvider.token= 2>&1; echo exit $?"
    lines = run(release.image, "timeout", "60", "sh", "-c", words).splitlines()
    assert lines[-1] == "exit 1"
    assert [line for line in lines if line.startswith("error: this server has no authentication")]
    assert not [line for line in lines if "Traceback" in line]


def test_tensorboard_is_in_the_launcher_and_answers(
    release: Release, name: str, folder: Path
) -> None:
    docker(
        "run",
        "-d",
        "--name",
        name,
        f"--volume={folder}:/workspace",
        release.image,
        "jupyter",
        "lab",
        "--ip=0.0.0.0",
    )
    place, _, token = wait_for_url(name).partition("lab?token=")
    listed = docker("exec", name, "curl", "-s", f"{place}server-proxy/servers-info?token={token}")
    assert '"TensorBoard"' in listed
    page = docker("exec", name, "curl", "-sL", "--retry", "3", f"{place}tensorboard/?token={token}")
    assert "<title>TensorBoard</title>" in page
    docker("exec", "--workdir=/workspace", name, "python", "-c", RUN_OF_A_PROJECT)
    runs = ("exec", name, "curl", "-s", f"{place}tensorboard/data/runs?token={token}")
    eventually_sync(
        lambda: docker(*runs) == '["project/runs/first"]', seconds=60, what="a run is seen"
    )
    assert docker("exec", name, "sh", "-c", f"{CODE} {place}tensorboard/") in {"302", "403"}
