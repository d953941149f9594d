"""Every release of the catalog is what the catalog says and fit for a researcher."""

from __future__ import annotations

import json

import pytest

from spawner.catalog import Release
from tests.images.conftest import REPOSITORY, docker, inspect, run

SOMEBODY = ("--user=20001:20001",)
ROOT = ("--user=0:0", "--entrypoint=sh")
HARDENED = ("--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp")
IDENTITY = """
import getpass, json, os, pathlib, pwd, tempfile
tempfile.TemporaryFile(dir=pathlib.Path.home())
print(json.dumps([pwd.getpwuid(os.getuid()).pw_name, getpass.getuser(), os.getuid(), os.getgid(),
                  str(pathlib.Path.home()), os.environ["USER"], os.environ["LOGNAME"]]))
"""
STALE_BYTECODE = """
import importlib.util, pathlib
stale = []
for cache in pathlib.Path("/opt/pytorch/lib").rglob("*.cpython-311.pyc"):
    source = cache.parent.parent / (cache.name.split(".cpython-")[0] + ".py")
    head = cache.read_bytes()[4:16]
    if head != b"\\x01\\0\\0\\0" + importlib.util.source_hash(source.read_bytes()):
        stale.append(str(cache))
for name in ("torch", "jupyterlab", "gpu_panel"):
    assert list(pathlib.Path("/opt/pytorch/lib").rglob(f"{name}/__pycache__/__init__.*.pyc")), name
print(stale)
"""
COMPILED = """
import torch
shape = torch.compile(lambda x: (x.sin() * 2 + x.cos()).sum(-1))(torch.ones(64, 100)).shape
print(shape)
"""


def who(release: Release, *options: str) -> list[object]:
    answer: list[object] = json.loads(run(release.image, "python", "-c", IDENTITY, options=options))
    return answer


def test_any_user_has_a_name_and_a_home(release: Release) -> None:
    name, login, uid, gid, home, *environment = who(release, "--env=USER=alice", *SOMEBODY)
    assert [name, login, *environment] == ["alice"] * 4
    assert (uid, gid) == (20001, 20001)
    assert home == "/tmp/home"  # the image's home belongs to uid 1000


@pytest.mark.parametrize("user", ["5000", "501:20", "99:100", "300:300", "33"])
def test_users_of_other_systems_have_a_name_and_a_home(release: Release, user: str) -> None:
    name, login, uid, _, home, *environment = who(release, f"--user={user}")
    assert name
    assert [login, *environment] == ["researcher"] * 3
    assert (uid, home) == (int(user.partition(":")[0]), "/tmp/home")


def test_hardened_container_has_a_name(release: Release) -> None:
    assert who(release, *SOMEBODY, *HARDENED)[0] == "researcher"


@pytest.mark.parametrize("name", ["", "root", "a:b", "x\nroot::0:0::/:/bin/sh", "-n", "Ünal"])
def test_unusable_name_is_replaced(release: Release, name: str) -> None:
    assert who(release, f"--env=USER={name}", *SOMEBODY)[0] == "researcher"


def test_default_user_is_not_root(release: Release) -> None:
    assert inspect(release.image)["Config"]["User"] == "1000:1000"
    assert who(release)[:5] == ["researcher", "researcher", 1000, 1000, "/home/researcher"]


def test_fresh_home_volume_holds_the_examples(release: Release, volume: str) -> None:
    mount = f"--volume={volume}:/home/researcher"
    assert "simplenet.ipynb" in run(release.image, "ls", "examples", options=(mount,))
    docker("run", "--rm", *ROOT, mount, release.image, "-c", "chown -R 20001:20001 .")
    assert who(release, mount, *SOMEBODY)[4] == "/home/researcher"


def test_stack_is_what_the_catalog_states(release: Release) -> None:
    script = "import platform, torch; print(torch.__version__, torch.version.cuda, platform.python_version())"
    torch, cuda, python = run(release.image, "python", "-c", script).split()
    assert torch.split("+")[0] == release.torch
    assert cuda.startswith(release.cuda)
    assert python.startswith(f"{release.python}.")


def test_packages_fit_together(release: Release) -> None:
    assert run(release.image, "python", "-m", "pip", "check") == "No broken requirements found."


def test_example_runs_to_its_end(release: Release) -> None:
    command = (
        "jupyter",
        "nbconvert",
        "--execute",
        "--to=markdown",
        "--stdout",
        "examples/simplenet.ipynb",
    )
    assert "torch.Size([64, 10])" in run(release.image, *command, options=SOMEBODY)


def test_example_is_stored_without_outputs() -> None:
    path = REPOSITORY / "images" / "pytorch-cuda" / "examples" / "simplenet.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


def test_torch_compile_finds_its_compiler(release: Release) -> None:
    assert run(release.image, "python", "-c", COMPILED, options=SOMEBODY) == "torch.Size([64])"


def test_login_shell_finds_the_stack(release: Release) -> None:
    python = f"/home/researcher/.workbench/packages/{release.name}/bin/python"
    assert run(release.image, "bash", "-lc", "type -P python") == python


def test_panel_is_installed_and_news_are_off(release: Release) -> None:
    server = run(release.image, "sh", "-c", "jupyter server extension list 2>&1")
    assert "gpu_panel 0.1.0" in server
    lab = run(release.image, "sh", "-c", "jupyter labextension list 2>&1")
    installed, _, disabled = lab.partition("Disabled extensions:")
    assert "jupyterlab-gpu-panel" in installed
    assert "@jupyterlab/apputils-extension:announcements" in disabled


def test_bytecode_is_valid(release: Release) -> None:
    assert run(release.image, "python", "-c", STALE_BYTECODE) == "[]"


def test_server_needs_a_token(release: Release) -> None:
    script = """
        jupyter lab --ip=127.0.0.1 --no-browser >log 2>&1 &
        until code=$(curl -so /dev/null -w '%{http_code}' http://127.0.0.1:8888/api/kernels); do
            kill -0 $! || { cat log; exit 1; }
            sleep 0.1
        done
        echo "$code" "$(curl -so /dev/null -w '%{http_code}' http://127.0.0.1:8888/api/kernels?token=$JUPYTER_TOKEN)"
    """
    options = ("--env=JUPYTER_TOKEN=secret", *SOMEBODY)
    assert run(release.image, "timeout", "60", "sh", "-c", script, options=options) == "403 200"


def test_no_gpu_and_no_address_is_baked_in(release: Release) -> None:
    names = {line.partition("=")[0] for line in inspect(release.image)["Config"]["Env"]}
    assert not names & {"NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "JUPYTER_TOKEN"}
    assert not [name for name in names if name.startswith(("PIP_", "UV_", "SSL_", "NODE_"))]
    left = "/etc/pip.conf /root/.c* /run/secrets /run/ca /run/*cache"
    script = f"ls -A /usr/local/share/ca-certificates; ls -d {left} 2>&1 || true"
    files = docker("run", "--rm", *ROOT, release.image, "-c", script)
    assert [line for line in files.splitlines() if "No such file" not in line] == []
    assert "://" not in docker("history", "--no-trunc", "--format={{.CreatedBy}}", release.image)


def test_only_debians_authorities_are_trusted(release: Release) -> None:
    script = "/usr/sbin/update-ca-certificates --fresh --etccertsdir /tmp >/dev/null && cat /tmp/ca-certificates.crt"
    fresh = docker("run", "--rm", *ROOT, release.image, "-c", script)
    assert fresh == run(release.image, "cat", "/etc/ssl/certs/ca-certificates.crt")
