"""Two builds of one lock give the same files and the same description.

At every commit the own stages of one flavor are built a second time; ``scripts/test nightly images`` builds every
stage of all flavors.
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import PurePath
from uuid import uuid4

import pytest

from spawner.catalog import Release
from testing.scale import IS_NIGHTLY, at_scale
from tests.images.conftest import REPOSITORY, bash, image_of, inspect, run

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
LOCKS = {"serve": "torch serve", "train": "torch train", "lab": "torch train lab"}


@pytest.fixture
def again() -> Iterator[str]:
    """A name for a second image, which goes with everything that only it holds."""
    name = f"workbench-test-{uuid4().hex}:again"
    yield name
    subprocess.run(["docker", "image", "rm", name], check=False, capture_output=True)


def read_layers(image: str, layers: list[str]) -> dict[str, dict[str, tuple[object, ...]]]:
    """Return by each of ``layers`` of ``image`` its files by path, with all that it says of them."""
    read: dict[str, dict[str, tuple[object, ...]]] = {}
    with (
        subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as save,
        tarfile.open(fileobj=save.stdout, mode="r|") as archive,
    ):
        for blob in archive:
            layer = f"sha256:{PurePath(blob.name).name}"
            if layer in layers and (content := archive.extractfile(blob)):
                with tarfile.open(fileobj=content, mode="r|") as files:
                    read[layer] = {entry.name: describe(files, entry) for entry in files}
    return read


def describe(files: tarfile.TarFile, entry: tarfile.TarInfo) -> tuple[object, ...]:
    content = files.extractfile(entry) if entry.isreg() else None
    digest = hashlib.sha256(content.read()).hexdigest() if content else ""
    return (digest, entry.type, entry.mode, entry.uid, entry.gid, entry.linkname, int(entry.mtime))


def list_differences(one: str, other: str) -> dict[int, list[str]]:
    """Return by their numbers the layers at which two images differ, with the paths at which they do."""
    images = {one: inspect(one)["RootFS"]["Layers"], other: inspect(other)["RootFS"]["Layers"]}
    pairs = zip_longest(*images.values())
    differing = {number: pair for number, pair in enumerate(pairs) if pair[0] != pair[1]}
    first, second = (
        read_layers(image, [pair[side] for pair in differing.values()])
        for side, image in enumerate(images)
    )
    return {
        number: sorted(
            path
            for path in first.get(a, {}).keys() | second.get(b, {}).keys()
            if first.get(a, {}).get(path) != second.get(b, {}).get(path)
        )
        for number, (a, b) in differing.items()
    }


def test_what_changes_between_two_steps_has_another_date_even_of_the_same_size(
    release: Release,
) -> None:
    """Docker finds what a step changed by date and size, where the layer below came from another build."""
    settle = REPOSITORY / "images/pytorch-cuda/settle"
    steps = (
        "date() { stat --format=%Y /opt/one /opt/other /etc; };"
        "echo 1 >/opt/one; echo 1 >/opt/other; /settle; date;"
        "touch /dev; sleep 0.1; echo 2 >/opt/one; /settle; date"
    )
    options = ("--user", "0", "--volume", f"{settle}:/settle:ro", "--entrypoint", "sh")
    dates = [
        int(line) for line in run(image_of(release, "serve"), "-c", steps, options=options).split()
    ]
    one, other, etc = dates[:3]
    assert one == other == etc
    assert dates[3:] == [one + 1, other, etc + 1]


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
        pytest.fail(f"the layers differ: {list_differences(image, again)}")
    assert first["Config"] == second["Config"]
