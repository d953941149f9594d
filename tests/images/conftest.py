"""Runs commands in containers of the built images; a missing image is an error, not a skip."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from spawner.catalog import Release, load_catalog

REPOSITORY = Path(__file__).parents[2]
CATALOG = load_catalog(REPOSITORY / "images" / "catalog.toml")
CHOSEN = os.environ.get("WORKBENCH_RELEASES", "")
RELEASES = tuple(CATALOG.choose(CHOSEN.split()).releases.values())
LIBRARY = """
set -euo pipefail
lib=$repository/scripts/lib
for part in terminal settings packages tls base-image build-images; do . "$lib/$part.sh"; done
"""


def docker(*arguments: str) -> str:
    """Return what docker prints; a failure shows both of its streams."""
    done = subprocess.run(["docker", *arguments], text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def bash(
    script: str, repository: Path = REPOSITORY, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script with the library of ``repository`` loaded; the caller looks at the exit code."""
    path = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin"
    given = {"repository": str(repository), "WORKBENCH_RELEASES": CHOSEN, **environment}
    return subprocess.run(
        ["bash", "-c", LIBRARY + script],
        env={"PATH": path, "HOME": "/root", **given},
        text=True,
        capture_output=True,
        check=False,
    )


def image_of(release: Release, flavor: str) -> str:
    """Return the tag of a flavor."""
    return release.image if flavor == "lab" else f"{release.image}-{flavor}"


def inspect(image: str) -> dict[str, Any]:
    """Return Docker's description of an image."""
    description: dict[str, Any] = json.loads(docker("image", "inspect", image))[0]
    return description


def run(image: str, *command: str, options: tuple[str, ...] = ()) -> str:
    """Return the standard output of a command in a fresh container."""
    return docker("run", "--rm", "--init", *options, image, *command)


@pytest.fixture(params=RELEASES, ids=lambda release: release.name)
def release(request: pytest.FixtureRequest) -> Release:
    """Each release that WORKBENCH_RELEASES chooses."""
    found: Release = request.param
    return found


@pytest.fixture
def volume() -> Iterator[str]:
    """A fresh named volume."""
    name = docker("volume", "create", f"workbench-test-{uuid4().hex}")
    yield name
    docker("volume", "rm", name)
