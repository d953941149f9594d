"""Two builds of one lock give the same files and the same description.

At every commit the own stages of one flavor are built a second time; ``scripts/test nightly images`` builds every
stage of all flavors.
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from collections.abc import Iterator
from uuid import uuid4

import pytest

from spawner.catalog import Release
from tests.images.conftest import bash, docker, image_of, inspect
from tests.scale import IS_NIGHTLY, at_scale

AGAIN = """
git() {{ printf '%s %s\\n' "{revision}" "$(date --date "{created}" +%s)"; }}
docker() {{
  if [ "$1" != build ]; then command docker "$@"; return; fi
  shift
  command docker build {cache} "$@"
}}
build_release {release} {image} {flavor} "{locks}" 3
"""
"""Builds at the revision that the first image was built at: it stays as long as its own sources are the same."""
BY_DOCKER = {".dockerenv", "dev", "etc", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"}
"""What Docker makes in every container, besides what is in ``dev``."""
LOCKS = {"serve": "torch serve", "train": "torch train", "lab": "torch train lab"}


@pytest.fixture
def again() -> Iterator[str]:
    """A name for a second image, which goes with everything that only it holds."""
    name = f"workbench-test-{uuid4().hex}:again"
    yield name
    subprocess.run(["docker", "image", "rm", name], check=False, capture_output=True)


def read_files(image: str) -> dict[str, tuple[object, ...]]:
    """Return every file of ``image`` by its path, with all that a layer says of it."""
    container = docker("create", image)
    files: dict[str, tuple[object, ...]] = {}
    try:
        with (
            subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export,
            tarfile.open(fileobj=export.stdout, mode="r|") as archive,
        ):
            for entry in archive:
                content = archive.extractfile(entry) if entry.isreg() else None
                digest = hashlib.sha256(content.read()).hexdigest() if content else ""
                about = (entry.type, entry.mode, entry.uid, entry.gid, entry.linkname)
                files[entry.name] = (digest, *about, int(entry.mtime))
    finally:
        docker("rm", container)
    return files


def find_differences(one: str, other: str) -> list[str]:
    """Return the paths at which two images differ."""
    first, second = read_files(one), read_files(other)
    return sorted(
        path
        for path in first.keys() | second.keys()
        if first.get(path) != second.get(path)
        and path not in BY_DOCKER
        and not path.startswith("dev/")
    )


@pytest.mark.parametrize("flavor", at_scale(["serve"], list(LOCKS)))
def test_second_build_gives_the_same_image(release: Release, flavor: str, again: str) -> None:
    image = image_of(release, flavor)
    cache = "--no-cache" if IS_NIGHTLY else f"--no-cache-filter={flavor},{flavor}-stack,toolkit"
    first = inspect(image)
    script = AGAIN.format(
        cache=cache,
        release=release.name,
        image=again,
        flavor=flavor,
        locks=LOCKS[flavor],
        revision=first["Config"]["Labels"]["org.opencontainers.image.revision"],
        created=first["Created"],
    )
    built = bash(script)
    assert built.returncode == 0, built.stdout + built.stderr
    second = inspect(again)
    if first["RootFS"]["Layers"] != second["RootFS"]["Layers"]:
        pytest.fail(f"the layers differ, in {find_differences(image, again)}")
    assert first["Config"] == second["Config"]
