"""Packages in a home: pip installs, changes and removes any version over the image's, and the server sees none."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from spawner.catalog import Release
from tests.images.conftest import docker, run
from tests.images.wheels import write_wheel

PROBE = Path(__file__).with_name("probe_server.py").read_text(encoding="utf-8")
OFFLINE = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels PIP_QUIET=1; "
IMPORTED = "python -c 'import {0}; print({0}.__version__)'"
LISTED = "env -u PIP_QUIET pip list | grep '^six '"
TIMED = """
import subprocess, time
start = time.perf_counter()
subprocess.run(["make-environment", "/tmp/e"], check=True)
print(time.perf_counter() - start)
"""
SHADOWS = """
mkdir -p "$P/bin"
for module in tornado traitlets jupyter_server jupyterlab jupyterhub; do echo 'raise SystemExit(9)' >$S/$module.py; done
for name in jupyter jupyter-lab; do printf '#!/bin/sh\\nexit 9\\n' >$P/bin/$name; chmod +x $P/bin/$name; done
"""


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with other versions of what the image has, and with one package that it has not."""
    tmp_path.chmod(0o755)
    for version in ("1.15.0", "99.0"):
        write_wheel(tmp_path, "six", version)
    for name, version in (("torch", "2.6.0"), ("torch", "99.0"), ("jupyterlab", "4.0.0")):
        write_wheel(tmp_path, name, version)
    write_wheel(tmp_path, "needsoldtorch", "1.0", "torch<2.7")
    write_wheel(tmp_path, "needstorch", "1.0", "torch>=2", "six")
    return tmp_path


@pytest.fixture
def name() -> Iterator[str]:
    """A container's name; the container goes when the test ends."""
    name = f"workbench-test-{uuid4().hex}"
    yield name
    subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True)


def in_home(release: Release, volume: str, wheels: Path, script: str, *options: str) -> str:
    """Return what a script prints, in a read-only container with the home ``volume``; it fails at its first failure."""
    given = (
        *("--read-only", "--tmpfs=/tmp:exec", f"--volume={volume}:/home/researcher"),
        *(f"--volume={wheels}:/wheels:ro", "--network=none", *options),
    )
    paths = f"P={packages_of(release)}; S=$P/lib/python{release.python}/site-packages; "
    return run(release.image, "bash", "-lc", f"set -e; {OFFLINE}{paths}{script}", options=given)


def packages_of(release: Release) -> str:
    return f"/home/researcher/.workbench/packages/{release.name}"


def versions(release: Release, volume: str, wheels: Path, script: str) -> set[str]:
    """Return the versions of six that Python imports and pip lists after a script: one, if pip is right."""
    after = f"{script}; {IMPORTED.format('six')}; {LISTED}; ls -d $S/six-*.dist-info 2>/dev/null | wc -l; pip check >&2"
    imported, listed, copies = in_home(release, volume, wheels, after).splitlines()[-3:]
    assert int(copies) <= 1
    return {imported, listed.split()[1]}


def test_any_version_is_installed_changed_and_removed(
    release: Release, volume: str, wheels: Path
) -> None:
    (of_the_image,) = versions(release, volume, wheels, "true")
    assert versions(release, volume, wheels, "pip install six==1.15.0") == {"1.15.0"}
    assert versions(release, volume, wheels, "pip install --upgrade six") == {"99.0"}
    assert versions(release, volume, wheels, "python -m pip install six==1.15.0") == {"1.15.0"}
    assert versions(release, volume, wheels, "pip uninstall -y six") == {of_the_image}
    assert versions(release, volume, wheels, "pip uninstall -y six") == {of_the_image}


def test_a_package_is_installed_beside_the_torch_of_the_image(
    release: Release, volume: str, wheels: Path
) -> None:
    script = "pip install needstorch; ls $S"
    assert "torch" not in in_home(release, volume, wheels, script).split()


def test_what_the_image_holds_is_refused_with_the_reason(
    release: Release, volume: str, wheels: Path
) -> None:
    wishes = ("torch==2.6.0", "torch==99.0", "needsoldtorch", "jupyterlab==4.0.0")
    each = "".join(f"pip install {wish} 2>&1 && exit 9; " for wish in wishes)
    said = in_home(release, volume, wheels, f"unset PIP_QUIET; {each} ls $S")
    assert said.count(f"The user requested (constraint) torch=={release.torch}") == 3
    assert said.count("The user requested (constraint) jupyterlab==") == 1


def test_an_environment_with_the_packages_of_the_system_sees_those_of_the_image(
    release: Release, volume: str, wheels: Path
) -> None:
    script = (
        "python -m venv --without-pip --system-site-packages /tmp/e; /tmp/e/bin/"
        + IMPORTED.format("torch")
    )
    assert in_home(release, volume, wheels, script).startswith(release.torch)


def test_commands_of_the_image_see_the_packages(
    release: Release, volume: str, wheels: Path
) -> None:
    write = "echo 'import needstorch, sys; print(sys.prefix)' >/tmp/x.py; pip install needstorch"
    printed = in_home(
        release,
        volume,
        wheels,
        f"{write}; torchrun --nproc-per-node=1 /tmp/x.py; ipython /tmp/x.py",
    )
    assert printed.split() == [packages_of(release)] * 2


def test_an_environment_of_its_own_has_its_versions_and_a_kernel(
    release: Release, volume: str, wheels: Path
) -> None:
    folder = "~/.workbench/environments/old"
    script = f"""
        wb env create old >/dev/null; {folder}/bin/pip install six==1.15.0; wb env export old; wb env
        {folder}/bin/{IMPORTED.format("six")}; {IMPORTED.format("six")}
        jupyter kernelspec list --json 2>/dev/null | grep -q environments/old && echo a kernel
        wb env remove old --yes >/dev/null; jupyter kernelspec list 2>/dev/null; wb env; ls ~/.workbench/environments
    """
    lines = in_home(release, volume, wheels, script).splitlines()
    assert lines[0] == "six==1.15.0"
    assert lines[2].split() == ["old", "over", "the", "image's", "packages", folder]
    assert lines[3] == "1.15.0" != lines[4]
    assert lines[5] == "a kernel"
    assert not [line for line in lines[6:] if "old" in line]


def test_reset_removes_every_package_after_a_question(
    release: Release, volume: str, wheels: Path
) -> None:
    script = f"""
        pip install six==1.15.0; wb env reset </dev/null 2>&1 || echo refused $?
        wb env export; echo 'import os; os._exit(9)' >$S/broken.pth
        {IMPORTED.format("six")} || echo broken $?; wb env reset --yes; {IMPORTED.format("six")}; wb env export
    """
    lines = in_home(release, volume, wheels, script).splitlines()
    assert "add --yes" in lines[0]
    assert lines[1:4] == ["refused 2", "six==1.15.0", "broken 9"]
    assert lines[-1].startswith("1.") and lines[-1] != "1.15.0"


def test_other_names_are_refused(release: Release, volume: str, wheels: Path) -> None:
    names = ("../x", "", "python3", "A", "-x", "a" * 41, "a/b")
    each = "".join(f"wb env create -- '{name}' 2>&1 || echo exit $?; " for name in names)
    lines = in_home(release, volume, wheels, f"{each} ls ~/.workbench").splitlines()
    assert lines[-1] == "packages"
    assert lines[1:-1:2] == ["exit 2"] * len(names)
    assert all("is not a name for an environment" in line for line in lines[:-1:2])


def test_verify_names_what_a_home_changes(release: Release, volume: str, wheels: Path) -> None:
    script = f"""
        wb verify >/dev/null; echo exit $?; pip install six==1.15.0
        mkdir -p ~/sub ~/.ipython/profile_default/startup ~/.local/{release.name}/lib/python3.11/site-packages
        touch ~/sub/idna.py ~/.ipython/profile_default/startup/0.py
        echo "import sys; sys.path.insert(0, '/home/researcher/sub')" >$S/odd.pth
        PYTHONPATH=/home wb verify || echo exit $?
    """
    lines = in_home(release, volume, wheels, script).splitlines()
    assert (lines[0], lines[-1]) == ("exit 0", "exit 1")
    found = {line.split("  ")[1].strip() if line.startswith("fails") else line for line in lines}
    text = "\n".join(lines)
    for words in (
        "six 1.15.0 (1.",
        "idna from /home/researcher/sub/idna.py",
        "PYTHONPATH=/home",
        "odd.pth",
        ".ipython/profile_default/startup/0.py",
        f"/home/researcher/.local/{release.name}/lib",
    ):
        assert words in text, found


def test_a_first_start_takes_little_longer(release: Release, volume: str, wheels: Path) -> None:
    assert float(in_home(release, volume, wheels, f"python -c '{TIMED}'")) < 0.5


def test_a_start_without_packages_has_those_of_the_image(
    release: Release, volume: str, wheels: Path
) -> None:
    in_home(release, volume, wheels, "pip install six==1.15.0")
    option = "--env=WB_PACKAGES="
    script = "python -c 'import six, sys; print(six.__file__, sys.prefix)'; wb verify >/dev/null; echo $?"
    printed = in_home(release, volume, wheels, script, option)
    assert printed.split()[1:] == ["/opt/pytorch", "0"]


def test_the_server_imports_nothing_from_a_home_and_a_kernel_does(
    release: Release, volume: str, wheels: Path, name: str
) -> None:
    in_home(release, volume, wheels, "pip install needstorch")
    in_home(release, volume, wheels, SHADOWS.replace("tornado traitlets ", ""))
    options = (f"--volume={volume}:/home/researcher", "--env=JUPYTER_TOKEN=secret")
    docker("run", "-d", "--name", name, *options, release.image, "jupyter", "lab", "--ip=0.0.0.0")
    words = ("exec", name, "/opt/pytorch/bin/python", "-I", "-c", PROBE)
    assert json.loads(docker(*words)) == {"terminal": True, "kernel": packages_of(release)}
    maps = docker("exec", name, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "/opt/pytorch/bin/python -I /opt/pytorch/bin/jupyter-lab" in maps
